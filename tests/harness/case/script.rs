//! What happens in a case, step by step. A line is a step, or a part of one: packets that come in together, and all that
//! becomes of them. What is not said did not happen.

use stage::DropReason;
use units::Nanos;

use super::Family;
use super::numbers::number;
use super::stations::end;
use super::words::{Named, packets};
use crate::packet::Packet;
use crate::rig::{INSIDE, INSIDE_KERNEL, OUTSIDE, OUTSIDE_KERNEL, Side};
use crate::talk::Talk;

/// One step.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Packets come in, or time passes; afterwards exactly this has come out and was counted.
    Exchange(Exchange),
    /// A TCP connection is opened, packet by packet.
    Connect(Talk),
    /// The connection opened last still carries data both ways.
    Alive,
    /// So many sessions are there.
    Sessions(usize),
    /// So many claims to addresses of ours were told since the last look.
    Alarms(usize),
}

/// See [`Step::Exchange`].
#[derive(Clone, Debug, Default)]
pub(super) struct Exchange {
    /// Time that passes first.
    pub(super) wait: Option<Nanos>,
    pub(super) packets: Vec<(Side, Packet)>,
    pub(super) out: Vec<(Side, Packet)>,
    pub(super) drops: Vec<DropReason>,
    /// Whether anything was said of what comes out.
    expects: bool,
}

const SIDES: &[(&str, Side)] =
    &[("wan", OUTSIDE), ("dmz", INSIDE), ("wan.kernel", OUTSIDE_KERNEL), ("dmz.kernel", INSIDE_KERNEL)];

/// Reads a script for one family: steps with the line each begins in.
pub(super) fn read(text: &str, family: Family) -> Result<Vec<(usize, Step)>, String> {
    let mut script = Script { family, named: Named::new(), steps: Vec::new(), open: None };
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            script.line(line, text).map_err(|why| format!("line {line}, `{text}`: {why}"))?;
        }
    }
    script.close()?;
    if script.steps.is_empty() {
        return Err("nothing happens in it".into());
    }
    Ok(script.steps)
}

struct Script {
    family: Family,
    named: Named,
    steps: Vec<(usize, Step)>,
    /// The exchange that is being read, and the line it began in.
    open: Option<(usize, Exchange)>,
}

impl Script {
    fn line(&mut self, line: usize, text: &str) -> Result<(), String> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let rest = rest.trim();
        match verb {
            "let" => {
                let (name, packet) = rest.split_once('=').ok_or("`let` is like `let d = udp client:1 > server:53`")?;
                let mut one = packets(packet, self.family, &self.named)?;
                let packet = one.pop().filter(|_| one.is_empty()).ok_or("a name is for one packet")?;
                if self.named.insert(name.trim().into(), packet).is_some() {
                    return Err(format!("`{}` has a meaning already", name.trim()));
                }
                return Ok(());
            }
            "in" => {
                let (side, packet) = side(rest)?;
                let came = packets(packet, self.family, &self.named)?;
                let exchange = self.exchange(line)?;
                exchange.packets.extend(came.into_iter().map(|packet| (side, packet)));
                return Ok(());
            }
            "wait" => {
                self.close()?;
                let wait = Some(Nanos::from_millis(duration(rest)?));
                self.open = Some((line, Exchange { wait, ..Exchange::default() }));
                return Ok(());
            }
            "pass" | "punt" | "out" | "drop" | "nothing" => return self.expect(verb, rest),
            _ => self.close()?,
        }
        let step = match verb {
            "connect" => Step::Connect(self.connect(rest)?),
            "alive" => Step::Alive,
            "sessions" => Step::Sessions(number(rest)?),
            "alarms" => Step::Alarms(number(rest)?),
            _ => return Err(format!("no line begins with `{verb}`")),
        };
        self.steps.push((line, step));
        Ok(())
    }

    /// The exchange that packets come into: the one that is being read, as long as nothing was said of what comes out.
    fn exchange(&mut self, line: usize) -> Result<&mut Exchange, String> {
        if self.open.as_ref().is_some_and(|(_, exchange)| exchange.expects) {
            self.close()?;
        }
        Ok(&mut self.open.get_or_insert_with(|| (line, Exchange::default())).1)
    }

    fn expect(&mut self, verb: &str, rest: &str) -> Result<(), String> {
        let family = self.family;
        let Some((_, exchange)) = &mut self.open else { return Err("nothing has come in".into()) };
        exchange.expects = true;
        match verb {
            "nothing" if rest.is_empty() => {}
            "pass" | "punt" => {
                let chosen = if rest.is_empty() {
                    exchange.packets.clone()
                } else {
                    let which = rest.split_whitespace().map(number::<usize>).collect::<Result<Vec<_>, _>>()?;
                    let one =
                        |which: usize| which.checked_sub(1).and_then(|which| exchange.packets.get(which)).cloned();
                    let chosen: Option<Vec<_>> = which.into_iter().map(one).collect();
                    chosen.ok_or_else(|| format!("{} packets have come in, counted from 1", exchange.packets.len()))?
                };
                for (side, packet) in chosen {
                    exchange.out.push(if verb == "punt" { punted(side, packet)? } else { passed(side, packet) });
                }
            }
            "out" => {
                let (side, packet) = side(rest)?;
                let out = packets(packet, family, &self.named)?;
                exchange.out.extend(out.into_iter().map(|packet| (side, packet)));
            }
            "drop" => {
                let mut words = rest.split_whitespace();
                let name = words.next().ok_or("`drop` needs a reason")?;
                let times = words.next().map_or(Ok(1), |times| number(times.trim_start_matches('x')))?;
                exchange.drops.extend(std::iter::repeat_n(reason(name, family)?, times));
                if let Some(word) = words.next() {
                    return Err(format!("`{word}` is too much"));
                }
            }
            _ => return Err(format!("`{rest}` is too much")),
        }
        Ok(())
    }

    /// `connect SIDE OPENER > ASKED`, and `as OPENER > ANSWERER` when it looks different on the other side.
    fn connect(&self, rest: &str) -> Result<Talk, String> {
        let (side, ends) = side(rest)?;
        let (near, far) = ends.split_once(" as ").unwrap_or((ends, ends));
        let pair = |text: &str| -> Result<(String, String), String> {
            let (one, other) = text.split_once('>').ok_or("`>` is missing")?;
            Ok((end(one.trim(), self.family)?, end(other.trim(), self.family)?))
        };
        let (near, far) = (pair(near)?, pair(far)?);
        Ok(Talk::tcp((side, &near.0, &near.1), (across(side), &far.0, &far.1)))
    }

    fn close(&mut self) -> Result<(), String> {
        if let Some((line, exchange)) = self.open.take() {
            if !exchange.expects {
                return Err(format!("line {line}: say what comes of it: pass, out, punt, drop or nothing"));
            }
            self.steps.push((line, Step::Exchange(exchange)));
        }
        Ok(())
    }
}

fn side(text: &str) -> Result<(Side, &str), String> {
    let (name, rest) = text.split_once(' ').ok_or("a side and a packet belong here")?;
    let side = SIDES.iter().find(|(known, _)| *known == name).map(|&(_, side)| side);
    Ok((side.ok_or_else(|| format!("no side is `{name}`"))?, rest.trim()))
}

const fn across(side: Side) -> Side {
    match side {
        OUTSIDE => INSIDE,
        INSIDE => OUTSIDE,
        Side::Kernel(port) | Side::Wire(port) => Side::Wire(port),
    }
}

/// A packet as it leaves: one hop further on the other side, or as it is where the kernel sends it.
fn passed(side: Side, packet: Packet) -> (Side, Packet) {
    match side {
        Side::Wire(_) => (across(side), packet.routed()),
        Side::Kernel(_) => (across(side), packet),
    }
}

fn punted(side: Side, packet: Packet) -> Result<(Side, Packet), String> {
    match side {
        Side::Wire(port) => Ok((Side::Kernel(port), packet)),
        Side::Kernel(_) => Err("the kernel gets what came by wire".into()),
    }
}

/// A reason by its name; `ip_` is the family's own (`ipv4_version`), `one|other` is one for IPv4 and one for IPv6.
fn reason(word: &str, family: Family) -> Result<DropReason, String> {
    let (v4, v6) = word.split_once('|').unwrap_or((word, word));
    let name = match family {
        Family::V4 => v4.replacen("ip_", "ipv4_", usize::from(v4.starts_with("ip_"))),
        Family::V6 => v6.replacen("ip_", "ipv6_", usize::from(v6.starts_with("ip_"))),
    };
    DropReason::all().find(|reason| reason.name() == name).ok_or_else(|| format!("no counter is `{name}`"))
}

/// Milliseconds of `6s` or `250ms`.
fn duration(word: &str) -> Result<u64, String> {
    match (word.strip_suffix("ms"), word.strip_suffix('s')) {
        (Some(millis), _) => number(millis),
        (None, Some(seconds)) => Ok(number::<u64>(seconds)? * 1_000),
        (None, None) => Err(format!("`{word}` is no time like `6s` or `250ms`")),
    }
}
