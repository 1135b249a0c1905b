//! The order of weighted round robin, laid out once so that a turn is one table read: each backend comes as often as its
//! weight says, spread evenly over the whole. Built in management and control, read by workers, never changed.

/// The most places of a schedule. Weights whose sum (over their greatest common divisor) is larger are scaled down to it,
/// the least of them to one place, so shares are exact to 1 in 16,384.
pub(super) const PLACES_MAX: u64 = 16_384;

/// Positions of backends in the order they take their turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    places: Box<[u16]>,
}

impl Schedule {
    /// The schedule for these weights, by position; weight 0 gets no place.
    pub(super) fn new(weights: &[u32]) -> Self {
        // The k-th place of a backend with n places lies at (2k + 1) / 2n of the way; ties go by position.
        let mut turns: Vec<(u64, u64, u16)> = counts(weights)
            .into_iter()
            .zip(0..=u16::MAX)
            .flat_map(|(count, position)| (0..count).map(move |k| (2 * k + 1, count, position)))
            .collect();
        turns.sort_by(|&(a, of_a, first), &(b, of_b, second)| (a * of_b, first).cmp(&(b * of_a, second)));
        Self { places: turns.into_iter().map(|(.., position)| position).collect() }
    }

    /// The backend whose turn this is, and the next turn. Turns go round.
    pub(super) fn get(&self, turn: u32) -> Option<(usize, u32)> {
        let place = usize::try_from(turn).unwrap_or(0);
        let place = if place < self.places.len() { place } else { place.checked_rem(self.places.len())? };
        let next = if place + 1 < self.places.len() { place + 1 } else { 0 };
        self.places.get(place).map(|&position| (usize::from(position), u32::try_from(next).unwrap_or(0)))
    }

    /// How many places there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        size_of_val(&*self.places)
    }
}

/// Places for each weight: the weights over their greatest common divisor, scaled down when those are too many.
fn counts(weights: &[u32]) -> Vec<u64> {
    let divisor = weights.iter().fold(0, |divisor, &weight| common_divisor(divisor, weight));
    let reduced = weights.iter().map(|&weight| u64::from(weight.checked_div(divisor).unwrap_or(0)));
    let sum: u64 = reduced.clone().sum();
    if sum <= PLACES_MAX {
        return reduced.collect();
    }
    reduced.map(|weight| if weight == 0 { 0 } else { (weight * PLACES_MAX / sum).max(1) }).collect()
}

const fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(weights: &[u32]) -> Vec<u16> {
        Schedule::new(weights).places.to_vec()
    }

    #[test]
    fn equal_weights_take_turns_in_listed_order() {
        assert_eq!(order(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(order(&[7, 7]), [0, 1], "only the proportion counts");
    }

    #[test]
    fn heavier_backends_come_more_often_and_spread_out() {
        assert_eq!(order(&[1, 2]), [1, 0, 1]);
        assert_eq!(order(&[5, 1, 1]), [0, 0, 0, 1, 2, 0, 0]);
        assert_eq!(order(&[0, 3, 1]), [1, 1, 2, 1]);
    }

    #[test]
    fn turns_go_round_and_survive_a_shorter_schedule() {
        let schedule = Schedule::new(&[1, 2]);
        assert_eq!(schedule.get(2), Some((1, 0)));
        assert_eq!(schedule.get(u32::MAX), Some((1, 1)), "u32::MAX is a multiple of 3");
        assert_eq!(Schedule::new(&[0, 0]).get(5), None);
        assert_eq!(Schedule::new(&[]).get(0), None);
    }

    #[test]
    fn huge_weights_are_scaled_and_nobody_is_scaled_away() {
        let schedule = Schedule::new(&[u32::MAX, 1, u32::MAX / 2]);
        assert!(schedule.len() as u64 <= PLACES_MAX + 3);
        assert_eq!(schedule.places.iter().filter(|&&position| position == 1).count(), 1);
        let third = schedule.places.iter().filter(|&&position| position == 2).count();
        assert!((5_400..5_500).contains(&third), "{third}");
    }

    proptest! {
        #[test]
        fn every_stretch_of_a_schedule_is_nearly_proportional(weights in prop::collection::vec(0u32..20, 1..8)) {
            let places = order(&weights);
            let sum = places.len();
            let total: u32 = weights.iter().sum();
            for (position, &weight) in weights.iter().enumerate() {
                let mut seen = 0usize;
                for (n, &place) in places.iter().enumerate() {
                    seen += usize::from(usize::from(place) == position);
                    // After n + 1 turns: within one of its exact share.
                    let exact = (n + 1) * weight as usize;
                    prop_assert!((seen * total as usize).abs_diff(exact) <= total as usize * 2, "{places:?}");
                }
                if total > 0 {
                    prop_assert_eq!(seen * total as usize, sum * weight as usize);
                }
            }
        }
    }
}
