//! A bar on a terminal while the appliance works on a change: what it says of itself, asked ten times a second.

use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::client::Client;
use crate::status::ProgressStatus;

/// From one question to the next; a change that takes less shows nothing.
const EVERY: Duration = Duration::from_millis(100);

/// Makes a call, and shows how far the appliance is with it where somebody watches standard error.
pub(super) fn watched<T>(client: &Client, call: impl FnOnce() -> T) -> T {
    if !stderr().is_terminal() {
        return call();
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| draw(client, &ended));
        let answer = call();
        ended.store(true, Ordering::Relaxed);
        answer
    })
}

fn draw(client: &Client, ended: &AtomicBool) {
    // A second way to the appliance: the first waits for its answer. Without one there is no bar, and nothing else is missing.
    let Ok(client) = client.another() else { return };
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}") {
        bar.set_style(style);
    }
    while !ended.load(Ordering::Relaxed) {
        thread::sleep(EVERY);
        if let Ok(Some(ProgressStatus { step, done, of, elapsed_ms })) = client.show("progress") {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(format!("{step}, {}.{} s", elapsed_ms / 1_000, elapsed_ms / 100 % 10));
        }
    }
    bar.finish_and_clear();
}
