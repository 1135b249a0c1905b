//! What is kept beside some sessions: more than an entry of the table has room for. Such a session names its place here
//! in its lease and a special next hop, so that all others neither ask nor pay for it. One worker's own.
//!
//! Places are taken and given back in constant time; their memory is set aside at the start and touched as it is used.

/// No further vacant place.
const END: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
enum Place<T> {
    Taken(T),
    /// The next vacant one.
    Vacant(u32),
}

/// Room for a bounded number of things, each found by its number.
#[derive(Debug)]
pub(crate) struct Beside<T> {
    places: Vec<Place<T>>,
    vacant: u32,
}

impl<T: Copy> Beside<T> {
    /// Room for as many.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { places: Vec::with_capacity(capacity), vacant: END }
    }

    /// Bytes set aside.
    pub(crate) const fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place<T>>()
    }

    /// Keeps a thing; `None` when there is no room.
    pub(crate) fn keep(&mut self, thing: T) -> Option<u32> {
        let number = self.vacant;
        if let Some(place) = usize::try_from(number).ok().and_then(|number| self.places.get_mut(number)) {
            if let Place::Vacant(next) = *place {
                self.vacant = next;
            }
            *place = Place::Taken(thing);
            return Some(number);
        }
        if self.places.len() == self.places.capacity() {
            return None;
        }
        let number = u32::try_from(self.places.len()).ok()?;
        self.places.push(Place::Taken(thing));
        Some(number)
    }

    /// Gives a thing back, and its place to another; `None` when there is nothing in it.
    pub(crate) fn give_back(&mut self, number: u32) -> Option<T> {
        let vacant = self.vacant;
        let place = self.places.get_mut(usize::try_from(number).ok()?)?;
        let Place::Taken(thing) = *place else { return None };
        *place = Place::Vacant(vacant);
        self.vacant = number;
        Some(thing)
    }

    /// A thing.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        match self.places.get(usize::try_from(number).ok()?)? {
            Place::Taken(thing) => Some(thing),
            Place::Vacant(_) => None,
        }
    }

    /// A thing, to change.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        match self.places.get_mut(usize::try_from(number).ok()?)? {
            Place::Taken(thing) => Some(thing),
            Place::Vacant(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_never_more_than_there_is_room_for() {
        let mut kept = Beside::new(3);
        assert!(kept.bytes() >= 3 * size_of::<&str>());
        let taken: Vec<_> = ["a", "b", "c"].map(|thing| kept.keep(thing).unwrap()).into();
        assert_eq!((taken.as_slice(), kept.keep("d")), (&[0, 1, 2][..], None));
        assert_eq!((kept.give_back(1), kept.give_back(0)), (Some("b"), Some("a")));
        assert!(kept.get(1).is_none());
        assert_eq!(["e", "f"].map(|thing| kept.keep(thing)), [Some(0), Some(1)]);
        assert_eq!(kept.get(1), Some(&"f"));
        assert_eq!(kept.keep("g"), None);
        // Twice given back is once given back.
        assert_eq!((kept.give_back(2), kept.give_back(2)), (Some("c"), None));
        assert_eq!(["h", "i"].map(|thing| kept.keep(thing)), [Some(2), None]);
    }
}
