//! Rates on a screen: workers and ports above, backends on the left, drops and sources on the right. What does not fit is left
//! out from below; a screen too small for anything says so.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::Screen;
use super::sample::{BackendRates, Rates};
use crate::status::HealthStatus;

/// The smallest screen that shows something.
const LEAST: (u16, u16) = (40, 10);

/// The order of backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Most bits a second first.
    #[default]
    Traffic,
    /// Most sessions first.
    Sessions,
    /// Most new sessions a second first.
    New,
    /// As in the configuration.
    Written,
}

impl Order {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::Traffic => Self::Sessions,
            Self::Sessions => Self::New,
            Self::New => Self::Written,
            Self::Written => Self::Traffic,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Traffic => "by traffic",
            Self::Sessions => "by sessions",
            Self::New => "by new sessions",
            Self::Written => "as configured",
        }
    }

    fn sort(self, backends: &mut [&BackendRates]) {
        match self {
            Self::Traffic => backends.sort_by(|one, other| other.traffic[1].total_cmp(&one.traffic[1])),
            Self::Sessions => backends.sort_by_key(|backend| core::cmp::Reverse(backend.active)),
            Self::New => backends.sort_by(|one, other| other.opened.total_cmp(&one.opened)),
            Self::Written => {}
        }
    }
}

/// Draws the screen.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        return frame.render_widget(Paragraph::new("too small"), area);
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(headline(screen)).style(Style::new().add_modifier(Modifier::REVERSED)), head);
    let keys =
        format!(" q quits  p {}  s sorts ({})", if screen.paused { "goes on" } else { "pauses" }, screen.order.words());
    frame.render_widget(Paragraph::new(keys), foot);
    let Some(rates) = &screen.rates else {
        let waiting = screen.complaint.as_deref().unwrap_or("looking for the first time ...");
        return frame.render_widget(Paragraph::new(waiting).alignment(Alignment::Center), body);
    };
    let (workers, ports) = (height(rates.workers.len()), height(rates.ports.len()));
    let [first, second, rest] =
        Layout::vertical([Constraint::Max(workers), Constraint::Max(ports), Constraint::Min(0)]).areas(body);
    draw_workers(frame, first, rates);
    draw_ports(frame, second, rates);
    let [left, right] = Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(rest);
    draw_backends(frame, left, rates, screen.order);
    let [above, below] = Layout::vertical([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(right);
    draw_drops(frame, above, rates);
    draw_sources(frame, below, rates);
}

/// Lines of a table with so many rows: those, its heading and its frame.
fn height(rows: usize) -> u16 {
    u16::try_from(rows + 3).unwrap_or(u16::MAX)
}

fn headline(screen: &Screen) -> Line<'static> {
    let mut text = " millrace".to_owned();
    if let Some(rates) = &screen.rates {
        let [sessions, capacity] = rates.sessions;
        let [buffers, all] = rates.buffers;
        text += &format!(
            "  generation {}  sessions {sessions} of {capacity}  buffers {buffers} of {all}",
            rates.generation
        );
    }
    if screen.paused {
        text += "  PAUSED";
    }
    if let Some(complaint) = &screen.complaint {
        text += &format!("  {complaint}");
    }
    Line::from(text)
}

/// A number of four digits at most, and what it counts in: `1.23M`.
#[must_use]
pub fn short(value: f64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match UNITS.iter().find(|(unit, _)| value >= *unit) {
        Some((unit, name)) => {
            let scaled = value / unit;
            if scaled >= 100.0 { format!("{scaled:.0}{name}") } else { format!("{scaled:.1}{name}") }
        }
        None if value > 0.0 && value < 10.0 => format!("{value:.1}"),
        None => format!("{value:.0}"),
    }
}

/// A table in a frame; the first column has words, the others numbers.
fn table(frame: &mut Frame<'_>, area: Rect, title: &str, first: u16, heads: &[&str], rows: Vec<(Style, Vec<String>)>) {
    let right = |text: String| Cell::from(Line::from(text).alignment(Alignment::Right));
    let cells = |values: Vec<String>| {
        let mut values = values.into_iter();
        let words = values.next().unwrap_or_default();
        [Cell::from(words)].into_iter().chain(values.map(right)).collect::<Vec<_>>()
    };
    let heading = Row::new(cells(heads.iter().map(|head| (*head).to_owned()).collect()))
        .style(Style::new().add_modifier(Modifier::BOLD));
    let widths = [Constraint::Min(first)].into_iter().chain(heads.iter().skip(1).map(|_| Constraint::Length(8)));
    let rows = rows.into_iter().map(|(style, values)| Row::new(cells(values)).style(style));
    let block = Block::new().borders(Borders::TOP).title(format!(" {title} "));
    frame.render_widget(Table::new(rows, widths).header(heading).block(block), area);
}

fn draw_workers(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.workers.iter().map(|worker| {
        let style = if worker.busy > 0.9 { Style::new().fg(Color::Red) } else { Style::new() };
        let values = vec![
            format!("core {}", worker.core),
            format!("{:.1}", worker.busy * 100.0),
            short(worker.packets),
            short(worker.cycles),
            format!("{:.1}", worker.fill),
            short(worker.opened),
            worker.sessions.to_string(),
            short(worker.drops),
        ];
        (style, values)
    });
    let heads = ["WORKER", "BUSY %", "PKT/S", "CYC/PKT", "BURST", "NEW/S", "SESSIONS", "DROP/S"];
    table(frame, area, "workers", 8, &heads, rows.collect());
}

fn draw_ports(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.ports.iter().map(|port| {
        let style = if port.up { Style::new() } else { Style::new().fg(Color::Red) };
        let name = if port.up { port.name.clone() } else { format!("{} (down)", port.name) };
        let numbers = [port.received, port.sent, port.lost].into_iter().flatten().map(short);
        (style, [name].into_iter().chain(numbers).collect())
    });
    let heads = ["PORT", "RX PKT/S", "RX BIT/S", "TX PKT/S", "TX BIT/S", "MISSED/S", "UNSENT/S"];
    table(frame, area, "ports", 8, &heads, rows.collect());
}

fn draw_backends(frame: &mut Frame<'_>, area: Rect, rates: &Rates, order: Order) {
    let mut backends: Vec<&BackendRates> = rates.backends.iter().collect();
    order.sort(&mut backends);
    let rows = backends.into_iter().take(usize::from(area.height)).map(|backend| {
        let (style, mark) = match backend.health {
            HealthStatus::Up => (Style::new(), ""),
            HealthStatus::Unknown => (Style::new(), " ?"),
            HealthStatus::Failed => (Style::new().fg(Color::Red), " failed"),
            HealthStatus::Draining | HealthStatus::Disabled => (Style::new().fg(Color::Yellow), " drained"),
        };
        let values = vec![
            format!("{}{mark}", backend.name),
            backend.active.to_string(),
            short(backend.opened),
            short(backend.traffic[0]),
            short(backend.traffic[1]),
        ];
        (style, values)
    });
    table(frame, area, "backends", 12, &["BACKEND", "SESSIONS", "NEW/S", "PKT/S", "BIT/S"], rows.collect());
}

fn draw_drops(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.drops.iter().take(usize::from(area.height));
    let rows = rows.map(|(reason, rate)| (Style::new(), vec![reason.clone(), short(*rate)]));
    table(frame, area, "drops", 12, &["REASON", "PKT/S"], rows.collect());
}

fn draw_sources(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.sources.iter().take(usize::from(area.height));
    let rows = rows.map(|source| {
        let values = vec![source.whose(), source.new_sessions.to_string(), source.drops.to_string()];
        (Style::new(), values)
    });
    table(frame, area, "sources, lately", 12, &["SOURCE", "NEW", "DROPS"], rows.collect());
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::super::Pressed;
    use super::super::sample::{PortRates, WorkerRates};
    use super::*;
    use crate::status::TalkerStatus;

    fn screen() -> Screen {
        let backend = |name: &str, health, active, bits| BackendRates {
            name: name.to_owned(),
            health,
            active,
            opened: 0.5,
            traffic: [100.0, bits],
        };
        let rates = Rates {
            ports: vec![PortRates {
                name: "outside".to_owned(),
                up: false,
                received: [1_234_567.0, 9_876_543_210.0],
                sent: [0.0, 0.0],
                lost: [3.0, 0.0],
            }],
            workers: vec![WorkerRates {
                core: 3,
                busy: 0.425,
                packets: 2_000_000.0,
                cycles: 151.0,
                fill: 28.0,
                drops: 12.0,
                opened: 900.0,
                sessions: 77,
            }],
            backends: vec![
                backend("shop/a", HealthStatus::Up, 90, 1e6),
                backend("shop/b", HealthStatus::Failed, 100, 1e3),
            ],
            drops: vec![("no_route".to_owned(), 12.0)],
            sources: vec![TalkerStatus {
                address: "192.0.2.1".to_owned(),
                tenant: None,
                new_sessions: 5,
                challenges: 0,
                drops: 6,
            }],
            sessions: [77, 1_000],
            buffers: [5, 64],
            generation: 9,
        };
        Screen { rates: Some(rates), ..Screen::default() }
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_on_a_screen_of_a_hundred_columns() {
        let text = drawn(&screen(), 100, 30);
        for piece in [
            "generation 9  sessions 77 of 1000",
            "core 3",
            "42.5",
            "2.0M",
            "outside (down)",
            "9.9G",
            "shop/b failed",
            "no_route",
            "192.0.2.1",
            "q quits  p pauses  s sorts (by traffic)",
        ] {
            assert!(text.contains(piece), "{piece} in\n{text}");
        }
    }

    #[test]
    fn screens_of_every_size_are_drawn() {
        for (width, height) in [(1, 1), (39, 50), (40, 10), (80, 24), (200, 60), (65, 11)] {
            let text = drawn(&screen(), width, height);
            let small = width < LEAST.0 || height < LEAST.1;
            assert_eq!(text.contains("millrace"), !small, "{width}x{height}\n{text}");
        }
        assert!(drawn(&Screen::default(), 80, 24).contains("looking for the first time"));
    }

    #[test]
    fn keys_sort_pause_and_quit() {
        let mut screen = screen();
        let key = |code| KeyEvent::new(code, KeyModifiers::NONE);
        let first = |screen: &Screen| {
            let text = drawn(screen, 100, 30);
            text.find("shop/a").unwrap() < text.find("shop/b").unwrap()
        };
        assert!(first(&screen), "by traffic");
        assert_eq!(screen.press(key(KeyCode::Char('s'))), Pressed::Stay);
        assert!(!first(&screen), "by sessions");
        screen.press(key(KeyCode::Char('p')));
        assert!(drawn(&screen, 100, 30).contains("PAUSED") && drawn(&screen, 100, 30).contains("p goes on"));
        for quits in
            [key(KeyCode::Char('q')), key(KeyCode::Esc), KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)]
        {
            assert_eq!(screen.press(quits), Pressed::Quit);
        }
        assert_eq!(screen.press(key(KeyCode::Char('c'))), Pressed::Stay);
    }

    #[test]
    fn numbers_are_short() {
        let told = [0.0, 0.5, 9.94, 10.0, 999.0, 1_000.0, 12_345.0, 999_999.0, 1e6, 2.5e12].map(short);
        assert_eq!(told, ["0", "0.5", "9.9", "10", "999", "1.0k", "12.3k", "1000k", "1.0M", "2.5T"]);
    }
}
