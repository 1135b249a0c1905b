//! One packet in words: `tcp client:40000 > server:80 syn seq=1000`. What it is comes first, then its ends, then what is
//! odd about it. Words that a packet has no use for are faults; so is anything that is not understood.

use std::collections::HashMap;

use super::Family;
use super::numbers::{bytes, number};
use super::stations::{address, end, mac};
use crate::packet::{
    ACK, FIN, PSH, Packet, RST, SYN, URG, arp_reply, arp_request, ethernet, icmp, ip, neighbor_advertisement, ping,
    pong, solicitation, station, tcp, udp,
};

/// Packets that a script has given a name.
pub(super) type Named = HashMap<String, Packet>;

/// The bits of `flags=`.
const FLAGS: &[(&str, u8)] =
    &[("FIN", FIN), ("SYN", SYN), ("RST", RST), ("PSH", PSH), ("ACK", ACK), ("URG", URG), ("ECE", 0x40), ("CWR", 0x80)];

/// Errors by the names both families have for them: type and code of ICMP, and of `ICMPv6`.
const ERRORS: &[(&str, [u8; 2], [u8; 2])] = &[
    ("unreachable", [3, 1], [1, 3]),
    ("port-unreachable", [3, 3], [1, 4]),
    ("prohibited", [3, 13], [1, 1]),
    ("too-big", [3, 4], [2, 0]),
    ("time-exceeded", [11, 0], [3, 0]),
    ("parameter-problem", [12, 0], [4, 0]),
];

/// Reads the packets of one line: one, or with `pieces=` all fragments of one.
pub(super) fn packets(line: &str, family: Family, named: &Named) -> Result<Vec<Packet>, String> {
    let spaced = line.replace('(', " ( ").replace(')', " ) ");
    let mut words = Words { left: spaced.split_whitespace().collect::<Vec<_>>().into_iter(), family, named };
    let (packet, pieces) = words.packet(false)?;
    Ok(match pieces {
        Some(len) => packet.pieces(len),
        None => vec![packet],
    })
}

struct Words<'a> {
    left: std::vec::IntoIter<&'a str>,
    family: Family,
    named: &'a Named,
}

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.left.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// `one > other`.
    fn pair(&mut self) -> Result<(&'a str, &'a str), String> {
        let one = self.next("who sends it")?;
        match self.next("`>`")? {
            ">" => Ok((one, self.next("who it is for")?)),
            word => Err(format!("`>` is missing before `{word}`")),
        }
    }

    fn hosts(&mut self) -> Result<(String, String), String> {
        let (one, other) = self.pair()?;
        Ok((address(one, self.family)?.to_string(), address(other, self.family)?.to_string()))
    }

    fn ends(&mut self) -> Result<(String, String), String> {
        let (one, other) = self.pair()?;
        Ok((end(one, self.family)?, end(other, self.family)?))
    }

    /// A packet, up to the end of the line or, `inside` another, to the closing parenthesis; and the length of the pieces
    /// it is to be cut into.
    fn packet(&mut self, inside: bool) -> Result<(Packet, Option<usize>), String> {
        let mut packet = self.head()?;
        let (mut data, mut carries, mut first, mut pieces) = (None, Vec::new(), None, None);
        loop {
            let word = match (self.left.next(), inside) {
                (None, false) => break,
                (None, true) => return Err("a parenthesis is not closed".into()),
                (Some(")"), true) => break,
                (Some(word), _) => word,
            };
            let said = word.split_once('=').map(|(key, value)| (key, self.of_family(value)));
            match said {
                _ if word == "(" => carries = self.packet(true)?.0.bytes_of_ip(),
                Some(("data", value)) => data = Some(bytes(value, self.family)?),
                Some(("text", value)) => data = Some(value.as_bytes().to_vec()),
                Some(("bytes", value)) => data = Some(pattern(number(value)?)),
                Some(("first", value)) => first = Some(number::<usize>(value)?),
                Some(("pieces", value)) if !inside => pieces = Some(number(value)?),
                Some((key, value)) => packet = self.says(packet, key, value)?,
                None => packet = plain(packet, word)?,
            }
            // Only now, so that what is said later may cut or translate it.
            if ["(", "data", "text", "bytes", "first"].contains(&word.split('=').next().unwrap_or_default()) {
                let mut all = data.clone().unwrap_or_default();
                all.extend(&carries);
                all.truncate(first.unwrap_or(usize::MAX));
                packet = packet.data(&all);
            }
        }
        Ok((packet, pieces))
    }

    /// Of `one|other` what is meant for the family of the case.
    fn of_family<'b>(&self, value: &'b str) -> &'b str {
        match (value.split_once('|'), self.family) {
            (Some((one, _)), Family::V4) => one,
            (Some((_, other)), Family::V6) => other,
            (None, _) => value,
        }
    }

    /// What it is and between whom.
    fn head(&mut self) -> Result<Packet, String> {
        let kind = self.next("a packet")?;
        if let Some(name) = kind.strip_prefix('$') {
            return self.named.get(name).cloned().ok_or_else(|| format!("no packet was named `{name}`"));
        }
        match kind {
            "tcp" | "udp" => {
                let (source, destination) = self.ends()?;
                Ok(if kind == "tcp" { tcp(&source, &destination) } else { udp(&source, &destination) })
            }
            "ping" | "pong" => {
                let identifier = number(self.next("an identifier")?)?;
                let (source, destination) = self.hosts()?;
                let write = if kind == "ping" { ping } else { pong };
                Ok(write(&source, &destination, identifier))
            }
            "icmp" => {
                let word = self.next("type and code")?;
                let (kind, code) = word.split_once('/').ok_or_else(|| format!("`{word}` is not like `3/1`"))?;
                let (kind, code) = (number(kind)?, number(code)?);
                let (source, destination) = self.hosts()?;
                Ok(icmp(&source, &destination, kind, code, 0, &[]))
            }
            "error" => {
                let word = self.next("which error")?;
                let (_, v4, v6) =
                    ERRORS.iter().find(|(name, ..)| *name == word).ok_or_else(|| format!("no error is `{word}`"))?;
                let [kind, code] = if self.family == Family::V4 { *v4 } else { *v6 };
                let (source, destination) = self.hosts()?;
                Ok(icmp(&source, &destination, kind, code, 0, &[]))
            }
            "ip" => {
                let word = self.next("a protocol number")?;
                let protocol = match (word, self.family) {
                    ("proto", Family::V4) => 4,
                    ("proto", Family::V6) => 41,
                    _ => number(word)?,
                };
                let (source, destination) = self.hosts()?;
                Ok(ip(&source, &destination, protocol, &[]))
            }
            "arp" => self.arp(),
            "solicit" => {
                let (source, target) = self.hosts()?;
                Ok(solicitation(&source, &target))
            }
            "advertise" => {
                let (target, destination) = self.hosts()?;
                let at = station(target.parse().map_err(|_| "an address".to_owned())?);
                let (mut at, mut flags) = (at, 0x60);
                // Both are in front: they are part of what is said.
                for key in ["at=", "flags="] {
                    let word = self.next(key)?;
                    match word.split_once('=') {
                        Some(("at", value)) => at = mac(value, self.family)?,
                        Some(("flags", value)) => flags = number(value)?,
                        _ => return Err(format!("`at=` and `flags=` come first, not `{word}`")),
                    }
                }
                Ok(neighbor_advertisement(at, &target, &destination, flags))
            }
            "ethernet" => {
                let word = self.next("an ethertype")?;
                let ethertype =
                    u16::from_str_radix(word, 16).map_err(|_| format!("`{word}` is no ethertype like `88cc`"))?;
                let payload = self.next("data=")?;
                let payload = payload.strip_prefix("data=").ok_or("`data=` comes first")?;
                let (from, to) = (mac("client", self.family)?, mac("own-mac", self.family)?);
                Ok(ethernet(from, to, ethertype, &bytes(payload, self.family)?))
            }
            _ => Err(format!("no packet is called `{kind}`")),
        }
    }

    /// `arp ask SENDER > TARGET`, or `arp tell SENDER > TARGET at=MAC`.
    fn arp(&mut self) -> Result<Packet, String> {
        let kind = self.next("`ask` or `tell`")?;
        let (sender, target) = self.hosts()?;
        match kind {
            "ask" => Ok(arp_request(&sender, &target)),
            "tell" => {
                let word = self.next("at=")?;
                let at = word.strip_prefix("at=").ok_or("`at=` comes first")?;
                let to = station(target.parse().map_err(|_| "an address".to_owned())?);
                Ok(arp_reply(mac(at, self.family)?, &sender, to, &target))
            }
            _ => Err(format!("ARP can `ask` and `tell`, not `{kind}`")),
        }
    }

    /// A word with a value.
    fn says(&self, packet: Packet, key: &str, value: &str) -> Result<Packet, String> {
        let family = self.family;
        Ok(match key {
            // The link.
            "from-mac" => packet.source_mac(mac(value, family)?),
            "to-mac" => packet.destination_mac(mac(value, family)?),
            "via" => packet.via(&address(value, family)?.to_string()),
            "tag" => match value.split_once(':') {
                Some((kind, vlan)) => packet.tagged_as(number(&format!("0x{kind}"))?, number(vlan)?),
                None => packet.tagged(number(value)?),
            },
            "pad" => packet.padded(&vec![0; number(value)?]),
            "cut" => packet.cut(number(value)?),
            "poke" => {
                let (at, value) = value.split_once(':').ok_or("`poke` is like `poke=20:ffff`")?;
                packet.spoilt(number(at)?, &bytes(value, family)?)
            }
            // IP.
            "from" | "to" => {
                let there = match value.rsplit_once(':') {
                    Some((_, port)) if port.parse::<u16>().is_ok() => end(value, family)?,
                    _ => address(value, family)?.to_string(),
                };
                if key == "from" { packet.from(&there) } else { packet.to(&there) }
            }
            "hops" => packet.hops(number(value)?),
            "class" => packet.class(number(value)?),
            "id" => packet.id(number(value)?),
            "version" => packet.version(number(value)?),
            "ihl" => packet.header_words(number(value)?),
            "length" => packet.total_length(number(value)?),
            "protocol" => packet.protocol(number(value)?),
            "bad-ip-sum" => packet.wrong_ip_checksum(number(value)?),
            "options" => packet.options(&bytes(value, family)?),
            "ext" => {
                let (kind, body) = value.split_once(':').ok_or("`ext` is like `ext=60:00,0104,4*00`")?;
                packet.extension(number(kind)?, &bytes(body, family)?)
            }
            "frag" => match value.strip_suffix('+') {
                Some(offset) => packet.fragment(number(offset)?, true),
                None => packet.fragment(number(value)?, false),
            },
            "piece" => {
                let (which, len) = value.split_once('/').ok_or("`piece` is like `piece=0/24`")?;
                let (which, pieces) = (number::<usize>(which)?, packet.pieces(number(len)?));
                let count = pieces.len();
                pieces.into_iter().nth(which).ok_or_else(|| format!("there are {count} pieces, from 0"))?
            }
            // What it carries.
            "bad-sum" => packet.wrong_checksum(number(value)?),
            "udp-length" => packet.udp_length(number(value)?),
            "rest" => packet.rest(number(value)?),
            "flags" => packet.flags(flags(value)?),
            "seq" => packet.seq(number(value)?),
            "ack" => packet.ack(number(value)?),
            "syn-ack" => packet.syn_ack(number(value)?),
            "fin" => packet.fin(number(value)?),
            "rst-ack" => packet.rst_ack(number(value)?),
            "acks" => packet.acknowledging(number(value)?),
            "window" => packet.window(number(value)?),
            "urgent" => packet.urgent(number(value)?),
            "doff" => packet.data_offset(number(value)?),
            "tcp-options" => packet.tcp_options(&bytes(value, family)?),
            "tcp-reserved" => packet.tcp_reserved(number(value)?),
            _ => return Err(format!("no word is `{key}=`")),
        })
    }
}

/// A word alone.
fn plain(packet: Packet, word: &str) -> Result<Packet, String> {
    Ok(match word {
        "syn" => packet.syn(),
        "rst" => packet.rst(),
        "df" => packet.dont_fragment(),
        "evil" => packet.reserved_flag(),
        "no-sum" => packet.no_checksum(),
        "routed" => packet.routed(),
        "atomic" => packet.atomic(),
        "told" => packet.told(),
        _ => return Err(format!("no word is `{word}`")),
    })
}

fn flags(value: &str) -> Result<u8, String> {
    if value.starts_with("0x") {
        return number(value);
    }
    value.split('+').try_fold(0, |all, name| {
        let bit = FLAGS.iter().find(|(known, _)| *known == name);
        bit.map(|(_, bit)| all | bit).ok_or_else(|| format!("no flag is `{name}`"))
    })
}

/// So many bytes, no two neighbors alike.
fn pattern(len: usize) -> Vec<u8> {
    (0..=250_u8).map(|byte| byte.wrapping_mul(13)).cycle().take(len).collect()
}
