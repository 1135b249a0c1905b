//! `[log]`: how the appliance writes what it has to say.

use crate::kind::choice;
use crate::policy::LogFormat;
use crate::section::Section;

const FORMATS: &[(&str, LogFormat)] =
    &[("text", LogFormat::Text), ("json", LogFormat::Json), ("journal", LogFormat::Journal)];

/// Reads `[log]`.
pub(crate) fn format(file: &mut Section<'_>) -> LogFormat {
    let Some(mut section) = file.table("log") else { return LogFormat::default() };
    let format = section.or("format", choice(FORMATS), LogFormat::default());
    section.finish();
    format
}
