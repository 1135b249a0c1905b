//! The order clients come in. Uniform: each once a pass, shuffled, the worst for caches. Zipf: a few send most of the
//! packets, as on real links.

use std::fmt;
use std::str::FromStr;

/// How the next sender is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Draw {
    /// Every client once, in random order.
    Uniform,
    /// Client `k` with a probability like `1 / k` (Zipf's law with exponent 1).
    Zipf,
}

impl fmt::Display for Draw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf",
        })
    }
}

impl FromStr for Draw {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "uniform" => Ok(Self::Uniform),
            "zipf" => Ok(Self::Zipf),
            _ => Err("write uniform or zipf".to_owned()),
        }
    }
}

/// Dice that fall alike in every run: xorshift64 (Marsaglia 2003).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    const fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The numbers of the clients, one a packet.
#[derive(Clone, Debug)]
pub struct Order {
    numbers: std::vec::IntoIter<u32>,
    distinct: u32,
}

impl Order {
    /// `packets` draws from `clients`. Uniform draws go through all clients before any comes again.
    #[must_use]
    pub fn new(draw: Draw, clients: u32, packets: u32) -> Self {
        let mut dice = Dice::new();
        let shuffled = shuffled(clients, &mut dice);
        let numbers: Vec<u32> = match draw {
            Draw::Uniform => shuffled.iter().copied().cycle().take(packets as usize).collect(),
            // Ranks are given out at random, so that neighbors in rank are no neighbors in address.
            Draw::Zipf => (0..packets)
                .map(|_| shuffled.get(zipf(clients, dice.next()) as usize).copied().unwrap_or_default())
                .collect(),
        };
        let distinct = match draw {
            Draw::Uniform => clients.min(packets),
            Draw::Zipf => distinct(&numbers, clients),
        };
        Self { numbers: numbers.into_iter(), distinct }
    }

    /// Clients that send at least one packet.
    #[must_use]
    pub const fn distinct(&self) -> u32 {
        self.distinct
    }
}

impl Iterator for Order {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.numbers.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.numbers.size_hint()
    }
}

/// All clients in random order (Fisher and Yates).
fn shuffled(clients: u32, dice: &mut Dice) -> Vec<u32> {
    let mut order: Vec<u32> = (0..clients).collect();
    for last in (1..order.len()).rev() {
        let pick = dice.next() % (last as u64 + 1);
        order.swap(last, usize::try_from(pick).unwrap_or_default());
    }
    order
}

/// A rank below `clients`, from a thrown die: the distribution of `1 / k` inverted in the continuous, which is within one
/// rank of the discrete.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank from a share"
)]
fn zipf(clients: u32, thrown: u64) -> u32 {
    let share = (thrown >> 11) as f64 / (1_u64 << 53) as f64;
    let rank = (f64::from(clients) + 1.0).powf(share) as u32;
    rank.saturating_sub(1).min(clients.saturating_sub(1))
}

fn distinct(numbers: &[u32], clients: u32) -> u32 {
    let mut seen = vec![false; clients as usize];
    for &number in numbers {
        if let Some(place) = seen.get_mut(number as usize) {
            *place = true;
        }
    }
    u32::try_from(seen.iter().filter(|&&seen| seen).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_is_everybody_once_in_random_order_and_always_the_same() {
        let order: Vec<u32> = Order::new(Draw::Uniform, 1_000, 1_000).collect();
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1_000).collect::<Vec<_>>());
        assert!(!order.is_sorted());
        assert_eq!(order, Order::new(Draw::Uniform, 1_000, 1_000).collect::<Vec<_>>());
        let twice = Order::new(Draw::Uniform, 1_000, 2_000);
        assert_eq!(twice.distinct(), 1_000);
        assert_eq!(Order::new(Draw::Uniform, 1_000, 10).distinct(), 10);
    }

    #[test]
    fn zipf_gives_the_first_rank_its_share_and_the_last_something() {
        let order = Order::new(Draw::Zipf, 1_000, 200_000);
        assert!(order.distinct() > 950, "{}", order.distinct());
        let mut counts = vec![0_u32; 1_000];
        order.for_each(|number| counts[number as usize] += 1);
        counts.sort_unstable_by(|a, b| b.cmp(a));
        // In the continuous the first rank has ln 2 / ln 1001 = 10.0 %, the first ten ln 11 / ln 1001 = 34.7 %.
        assert!((19_000..21_500).contains(&counts[0]), "{}", counts[0]);
        assert!((67_000..72_000).contains(&counts[..10].iter().sum::<u32>()));
    }

    #[test]
    fn one_client_is_enough_for_either() {
        for draw in [Draw::Uniform, Draw::Zipf] {
            assert_eq!(Order::new(draw, 1, 3).collect::<Vec<_>>(), [0, 0, 0]);
        }
    }
}
