//! Lists through the places of a table: each place knows its neighbors, so that any can be taken out at once. The oldest is
//! in front.

/// No place.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The neighbors of one place in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: u32,
    behind: u32,
}

impl Link {
    /// In no list.
    pub(super) const LOOSE: Self = Self { before: NOWHERE, behind: NOWHERE };
}

/// The ends of one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    front: u32,
    back: u32,
}

impl List {
    /// An empty list.
    pub(super) const EMPTY: Self = Self { front: NOWHERE, back: NOWHERE };

    /// The oldest place.
    pub(super) fn front(self) -> Option<u32> {
        (self.front != NOWHERE).then_some(self.front)
    }

    /// Whether nothing is in it.
    pub(super) const fn is_empty(self) -> bool {
        self.front == NOWHERE
    }

    /// Adds a place behind all others. `link` finds the neighbors of a place in this list.
    pub(super) fn push<T>(&mut self, place: u32, places: &mut [T], link: fn(&mut T) -> &mut Link) {
        if let Some(new) = at(places, place) {
            *link(new) = Link { before: self.back, behind: NOWHERE };
        }
        match at(places, self.back) {
            Some(back) => link(back).behind = place,
            None => self.front = place,
        }
        self.back = place;
    }

    /// Takes a place out, wherever it is.
    pub(super) fn remove<T>(&mut self, place: u32, places: &mut [T], link: fn(&mut T) -> &mut Link) {
        let Some(gone) = at(places, place) else { return };
        let Link { before, behind } = core::mem::replace(link(gone), Link::LOOSE);
        match at(places, before) {
            Some(neighbor) => link(neighbor).behind = behind,
            None => self.front = behind,
        }
        match at(places, behind) {
            Some(neighbor) => link(neighbor).before = before,
            None => self.back = before,
        }
    }
}

/// The place with this number.
pub(super) fn at<T>(places: &mut [T], place: u32) -> Option<&mut T> {
    places.get_mut(usize::try_from(place).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_place_can_be_taken_out_and_the_others_keep_their_order() {
        let order = |list: &List, places: &[Link]| {
            let mut order = Vec::new();
            let mut place = list.front;
            while place != NOWHERE {
                order.push(place);
                place = places[place as usize].behind;
            }
            order
        };
        for gone in 0..4 {
            let mut places = [Link::LOOSE; 4];
            let mut list = List::EMPTY;
            for place in 0..4 {
                list.push(place, &mut places, |link| link);
            }
            assert_eq!(order(&list, &places), [0, 1, 2, 3]);
            list.remove(gone, &mut places, |link| link);
            let left: Vec<u32> = (0..4).filter(|&place| place != gone).collect();
            assert_eq!(order(&list, &places), left);
            list.push(gone, &mut places, |link| link);
            for place in left {
                list.remove(place, &mut places, |link| link);
            }
            assert_eq!((list.front(), list.is_empty()), (Some(gone), false));
            list.remove(gone, &mut places, |link| link);
            assert!(list.is_empty() && list.back == NOWHERE);
        }
    }
}
