//! Families of metrics as text: `OpenMetrics` 1.0, or the older Prometheus text format 0.0.4 for readers that do not ask for it.
//! The two differ in how counters are announced, in units, and in the last line.

use core::fmt::{self, Write as _};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What a sample is of: labels and their values.
pub type Labels = Vec<(&'static str, String)>;

/// One histogram: of what, the sum of its values, and cumulative counts up to upper bounds, the last of which is infinite.
pub type Buckets = (Labels, f64, Vec<(f64, u64)>);

/// What a family counts or measures.
#[derive(Clone, Debug, PartialEq)]
pub enum Samples {
    /// What only grows.
    Counter(Vec<(Labels, u64)>),
    /// What goes up and down.
    Gauge(Vec<(Labels, f64)>),
    /// How often what was.
    Histogram(Vec<Buckets>),
}

/// One family.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, of counters without `_total`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub help: &'static str,
    /// Its numbers.
    pub samples: Samples,
}

impl Family {
    /// The name that queries use.
    #[must_use]
    pub fn queried(&self) -> String {
        match self.samples {
            Samples::Counter(_) => format!("{}_total", self.name),
            Samples::Gauge(_) | Samples::Histogram(_) => self.name.to_owned(),
        }
    }
}

/// How the text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// Prometheus text format 0.0.4.
    Prometheus,
}

impl Format {
    /// What a reader that accepts this gets.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Labels as they are written: the encoder leaves it to its callers to escape values (`OpenMetrics` 1.0, ABNF of `escaped-string`).
fn escaped(labels: &Labels) -> Labels {
    let escape = |value: &String| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    labels.iter().map(|(label, value)| (*label, escape(value))).collect()
}

/// All families, handed over to the encoder.
#[derive(Debug)]
struct Gathered(Vec<Family>);

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, samples } in &self.0 {
            let kind = match samples {
                Samples::Counter(_) => MetricType::Counter,
                Samples::Gauge(_) => MetricType::Gauge,
                Samples::Histogram(_) => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            match samples {
                Samples::Counter(samples) => {
                    for (labels, value) in samples {
                        match labels.as_slice() {
                            [] => family.encode_counter::<NoLabelSet, _, u64>(value, None)?,
                            _ => family
                                .encode_family(&escaped(labels))?
                                .encode_counter::<NoLabelSet, _, u64>(value, None)?,
                        }
                    }
                }
                Samples::Gauge(samples) => {
                    for (labels, value) in samples {
                        match labels.as_slice() {
                            [] => family.encode_gauge(value)?,
                            _ => family.encode_family(&escaped(labels))?.encode_gauge(value)?,
                        }
                    }
                }
                Samples::Histogram(samples) => {
                    for (labels, sum, buckets) in samples {
                        let count = buckets.last().map_or(0, |(_, count)| *count);
                        // The encoder adds them up.
                        let mut before = 0;
                        let apart: Vec<(f64, u64)> = buckets
                            .iter()
                            .map(|&(bound, count)| (bound, count - std::mem::replace(&mut before, count)))
                            .collect();
                        family
                            .encode_family(&escaped(labels))?
                            .encode_histogram::<NoLabelSet>(*sum, count, &apart, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The families as text.
///
/// # Errors
/// Only when writing into memory fails.
pub fn text(families: Vec<Family>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Gathered(families)));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    match format {
        Format::OpenMetrics => Ok(text),
        Format::Prometheus => prometheus(&text),
    }
}

/// The older format: a counter is announced by the name of its samples, and nothing marks the end.
fn prometheus(text: &str) -> Result<String, fmt::Error> {
    let mut older = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        let Some(help) = line.strip_prefix("# HELP ") else {
            writeln!(older, "{line}")?;
            continue;
        };
        let (name, words) = help.split_once(' ').unwrap_or((help, ""));
        match lines.next_if(|line| line.starts_with("# TYPE ") && line.ends_with(" counter")) {
            Some(_) => writeln!(older, "# HELP {name}_total {words}\n# TYPE {name}_total counter")?,
            None => writeln!(older, "{line}")?,
        }
    }
    Ok(older)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn few() -> Vec<Family> {
        let labels = |name: &str| vec![("port", name.to_owned())];
        vec![
            Family {
                name: "millrace_port_receive_bytes",
                help: "Bytes received.",
                samples: Samples::Counter(vec![(labels("a"), 3), (labels("say \"b\"\n"), u64::MAX)]),
            },
            Family { name: "millrace_up", help: "Here.", samples: Samples::Gauge(vec![(Vec::new(), 1.5)]) },
            Family {
                name: "millrace_time_seconds",
                help: "Time.",
                samples: Samples::Histogram(vec![(labels("a"), 0.5, vec![(0.1, 2), (0.2, 2), (f64::MAX, 5)])]),
            },
        ]
    }

    #[test]
    fn counters_are_announced_as_each_format_has_it() {
        let new = text(few(), Format::OpenMetrics).unwrap();
        assert!(
            new.contains(
                "# TYPE millrace_port_receive_bytes counter\nmillrace_port_receive_bytes_total{port=\"a\"} 3\n"
            ),
            "{new}"
        );
        assert!(new.contains("{port=\"say \\\"b\\\"\\n\"} 18446744073709551615"), "{new}");
        assert!(new.ends_with("# EOF\n"));
        let older = text(few(), Format::Prometheus).unwrap();
        let counter = "# HELP millrace_port_receive_bytes_total Bytes received.\n# TYPE millrace_port_receive_bytes_total counter\n\
                       millrace_port_receive_bytes_total{port=\"a\"} 3\n";
        assert!(older.contains(counter), "{older}");
        assert!(older.contains("# TYPE millrace_up gauge\nmillrace_up 1.5\n") && !older.contains("EOF"), "{older}");
    }

    #[test]
    fn buckets_hold_what_is_up_to_their_bound() {
        let text = text(few(), Format::Prometheus).unwrap();
        for line in [
            "millrace_time_seconds_sum{port=\"a\"} 0.5",
            "millrace_time_seconds_count{port=\"a\"} 5",
            "millrace_time_seconds_bucket{le=\"0.1\",port=\"a\"} 2",
            "millrace_time_seconds_bucket{le=\"0.2\",port=\"a\"} 2",
            "millrace_time_seconds_bucket{le=\"+Inf\",port=\"a\"} 5",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Prometheus);
        assert_eq!(Format::accepted(""), Format::Prometheus);
    }
}
