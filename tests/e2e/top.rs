//! The live view of the real program, in a terminal and without one.

use millrace_tests::net::{Appliance, Lab};

#[test]
fn the_view_is_drawn_on_a_terminal_and_ends_with_a_key() {
    let Some(lab) = Lab::wired("the_view_is_drawn_on_a_terminal_and_ends_with_a_key", &["script", "ping"]) else {
        return;
    };
    let appliance = Appliance::launch(&lab, &lab.edge());
    let screen = lab.file("screen");
    // The key is pressed when rates are on the screen: after the second look. Words alone are looked for: what is blank is not drawn.
    let press = format!("until grep -q BUSY {0} 2>/dev/null; do sleep 0.1; done; printf q", screen.display());
    // Nobody has said how large this terminal is.
    let watch = format!("script -qefc '{}' {}", appliance.command("top --every 200ms"), screen.display());
    let shown = lab.appliance.run_words(20, &["sh", "-c", &format!("({press}) | TERM=xterm {watch}")]);
    let drawn = std::fs::read_to_string(&screen).unwrap_or_default();
    assert!(shown.success, "{}{}", shown.out, shown.err);
    for piece in ["BUSY", "outside", "backends", "quits"] {
        assert!(drawn.contains(piece), "{piece} in {drawn:?}");
    }
    assert!(drawn.contains("\u{1b}[?1049l"), "the screen is given back");
    let piped = appliance.ask("top");
    assert!(!piped.success && piped.err.contains("top draws on a terminal, and this is none"), "{}", piped.err);
    appliance.stop();
}
