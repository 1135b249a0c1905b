//! `millrace top`: a live view in the terminal. Asks the running appliance every second over its socket, as `show` does, and
//! draws what has changed since.
//!
//! - [`sample`]: two answers, a while apart, as rates.
//! - [`view`]: rates on a screen of any size.
//!
//! Runs in the command line's process, on its one thread.

pub mod sample;
pub mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::client::{Client, ClientError};
use sample::{Rates, Sample};
use view::{Order, draw};

/// Columns and rows of a terminal that does not say its own, as serial consoles do not.
const UNSAID: (u16, u16) = (80, 24);

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The output goes elsewhere.
    #[error(
        "top draws on a terminal, and this is none; `millrace show workers`, `show ports`, `show services`, `show drops` and \
         `show top` print what it shows"
    )]
    NoTerminal,
    /// The appliance does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The terminal fails.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// What is on the screen.
#[derive(Debug)]
pub struct Screen {
    before: Option<Sample>,
    /// What is shown; nothing before the second answer.
    pub rates: Option<Rates>,
    /// In which order.
    pub order: Order,
    /// Whether it stands still.
    pub paused: bool,
    /// Why there is nothing newer.
    pub complaint: Option<String>,
}

impl Default for Screen {
    fn default() -> Self {
        Self { before: None, rates: None, order: Order::Traffic, paused: false, complaint: None }
    }
}

/// What a key has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressed {
    /// The view is over.
    Quit,
    /// The view has changed, or nothing has.
    Stay,
}

impl Screen {
    /// Takes in an answer, or why there is none.
    pub fn take(&mut self, asked: Result<Sample, ClientError>) {
        match asked {
            Ok(sample) => {
                self.complaint = None;
                if let Some(before) = self.before.replace(sample)
                    && let Some(now) = &self.before
                {
                    self.rates = Some(Rates::between(&before, now));
                }
            }
            // The appliance may be starting anew: what is compared with then is new, too.
            Err(error) => {
                self.complaint = Some(error.to_string());
                self.before = None;
            }
        }
    }

    /// Does what a key is for.
    pub fn press(&mut self, key: KeyEvent) -> Pressed {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            _ if key.kind == KeyEventKind::Release => {}
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
            KeyCode::Char('c') if control => return Pressed::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.order = self.order.next(),
            _ => {}
        }
        Pressed::Stay
    }
}

/// Shows it until a key ends it; `every` is the time from one look to the next.
///
/// # Errors
/// [`TopError`].
pub fn show(client: &Client, every: Duration) -> Result<(), TopError> {
    if !io::stdout().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    // Asked before the screen is taken: who cannot be reached is told in a line.
    let mut screen = Screen::default();
    screen.take(Ok(Sample::ask(client)?));
    let mut terminal = ratatui::try_init()?;
    let size = terminal.size()?;
    if size.width == 0 || size.height == 0 {
        let viewport = Viewport::Fixed(Rect::new(0, 0, UNSAID.0, UNSAID.1));
        terminal = Terminal::with_options(CrosstermBackend::new(io::stdout()), TerminalOptions { viewport })?;
    }
    let shown = attend(&mut terminal, &mut screen, client, every);
    ratatui::restore();
    shown
}

fn attend<B: Backend>(
    terminal: &mut Terminal<B>,
    screen: &mut Screen,
    client: &Client,
    every: Duration,
) -> Result<(), TopError> {
    let mut due = Instant::now() + every;
    loop {
        terminal.draw(|frame| draw(frame, screen))?;
        let patience = due.saturating_duration_since(Instant::now());
        if event::poll(patience)? {
            if let Event::Key(key) = event::read()?
                && screen.press(key) == Pressed::Quit
            {
                return Ok(());
            }
            continue;
        }
        due = Instant::now() + every;
        if !screen.paused {
            screen.take(Sample::ask(client));
        }
    }
}
