//! What is kept beside a session that began with a SYN cookie, or whose backend is told of its client, as it can be carried elsewhere with
//! the session's image. Only of connections whose halves are joined, and whose backend has heard all it is told: what is still being
//! shaken hands about is the worker's that began it.
//!
//! Every number in network order; what a connection does not have is zero:
//!
//! ```text
//!  0  u8   marks, see below                     16  u8   window scale of the client's SYN
//!  1  u32  number of the backend's SYN          17  u16  the client's window in its first ACK
//!  5  u32  number of the client's SYN           19  u32  the client's clock then, u32 the one it was told
//!  9  u32  the cookie                           27  u32  shift of sequence numbers, u32 of timestamps
//! 13  u16  segment size of the client's SYN     35  u8   scales of the client's windows, two, of the backend's, two
//! 15  u8   0                                    39  u32  where the client's own numbers begin
//!                                               43  u32  acknowledgment, u16 window of the segment that introduced the client
//! ```

use stage::introduction::Introduction;
use stage::syn_cookie::Offer;
use stage::translate::{Lead, Progress, Shift};
use units::{ServiceId, Tick};
use wire::SeqNumber;

use crate::splice::{Introducing, Phase, Splice};

// The marks.
const JOINED: u8 = 1;
const SCALED: u8 = 2;
const SELECTIVE: u8 = 4;
const CLOCKS: u8 = 8;
const INTRODUCED: u8 = 16;
const BY_OPTION: u8 = 32;

/// What is kept beside one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpliceImage {
    bytes: [u8; Self::LEN],
}

impl SpliceImage {
    /// Bytes of each.
    pub const LEN: usize = 49;

    /// That of a connection; `None` while it is still being begun.
    pub(crate) fn of(splice: &Splice) -> Option<Self> {
        let Splice { opener, cookie, offer, clocks, window, shift, introducing, floor, .. } = *splice;
        if shift.lead.is_some_and(|lead| !lead.is_heard()) || introducing.is_some() != shift.lead.is_some() {
            return None;
        }
        let joined = match splice.phase {
            Phase::Waiting => return None,
            Phase::Joined(first) => Some(first),
            Phase::Through => None,
        };
        let mark = |wanted: bool, mark: u8| if wanted { mark } else { 0 };
        let by_option = introducing.is_some_and(|it| it.how == Introduction::TcpOption);
        let marks = mark(joined.is_some(), JOINED)
            | mark(offer.window_scale.is_some(), SCALED)
            | mark(offer.sack_permitted, SELECTIVE)
            | mark(clocks.is_some(), CLOCKS)
            | mark(introducing.is_some(), INTRODUCED)
            | mark(by_option, BY_OPTION);
        let mut bytes = [0; Self::LEN];
        let mut rest = &mut bytes[..];
        let mut put = |field: &[u8]| {
            if let Some((place, behind)) = core::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                place.copy_from_slice(field);
                rest = behind;
            }
        };
        put(&[marks]);
        for number in [joined.map_or(0, SeqNumber::get), opener.get(), cookie.get()] {
            put(&number.to_be_bytes());
        }
        put(&offer.segment_size.to_be_bytes());
        put(&[0, offer.window_scale.unwrap_or(0)]);
        put(&window.to_be_bytes());
        let [client, told] = clocks.unwrap_or_default();
        for word in [client, told, shift.sequence, shift.timestamp] {
            put(&word.to_be_bytes());
        }
        put(&shift.client_scale);
        put(&shift.backend_scale);
        put(&floor.get().to_be_bytes());
        put(&introducing.map_or(0, |it| it.acknowledgment.get()).to_be_bytes());
        put(&introducing.map_or(0, |it| it.window).to_be_bytes());
        Some(Self { bytes })
    }

    /// The one that stands in these bytes.
    pub(crate) const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self { bytes }
    }

    /// Its bytes.
    pub(crate) const fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    /// A connection of this service as it was; `None` where the bytes are none. The backend was told in another time.
    pub(crate) fn splice(&self, service: ServiceId, v6: bool) -> Option<Splice> {
        let (&[marks], rest) = self.bytes.split_first_chunk()?;
        let (numbers, rest) = rest.split_first_chunk::<12>()?;
        let [joined, opener, cookie] = words(numbers)?;
        let (&[s0, s1, 0, scale, w0, w1], rest) = rest.split_first_chunk()? else { return None };
        let (shifts, rest) = rest.split_first_chunk::<16>()?;
        let [client, told, sequence, timestamp] = words(shifts)?;
        let (&[c0, c1, b0, b1], rest) = rest.split_first_chunk()?;
        let (introduction, last) = rest.split_first_chunk::<8>()?;
        let [floor, acknowledgment] = words(introduction)?;
        let has = |mark| marks & mark != 0;
        let offer = Offer {
            segment_size: u16::from_be_bytes([s0, s1]),
            window_scale: has(SCALED).then_some(scale),
            sack_permitted: has(SELECTIVE),
        };
        let mut splice = Splice::new(service, SeqNumber::new(opener), SeqNumber::new(cookie), offer);
        splice.phase = if has(JOINED) { Phase::Joined(SeqNumber::new(joined)) } else { Phase::Through };
        splice.clocks = has(CLOCKS).then_some([client, told]);
        splice.window = u16::from_be_bytes([w0, w1]);
        splice.floor = SeqNumber::new(floor);
        splice.shift = Shift { sequence, timestamp, client_scale: [c0, c1], backend_scale: [b0, b1], lead: None };
        if has(INTRODUCED) {
            let how = if has(BY_OPTION) { Introduction::TcpOption } else { Introduction::ProxyV2 };
            splice.shift.lead = Some(Lead { progress: Progress::Heard, ..Lead::of(splice.opener, how, v6) });
            splice.introducing = Some(Introducing {
                told: Some(Tick::new(0)),
                acknowledgment: SeqNumber::new(acknowledgment),
                window: u16::from_be_bytes(last.try_into().ok()?),
                ..Introducing::new(how)
            });
        }
        // Nothing but what would be written.
        (Self::of(&splice) == Some(*self)).then_some(splice)
    }
}

/// Numbers one behind the other.
fn words<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let (words, []) = bytes.as_chunks() else { return None };
    let words: [[u8; 4]; N] = words.try_into().ok()?;
    Some(words.map(u32::from_be_bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever bytes there are, they are no connection, or exactly the one that is written so.
        #[test]
        fn a_connection_is_read_as_it_was_written(mut bytes in prop::array::uniform::<_, { SpliceImage::LEN }>(any::<u8>()), v6: bool, spare: bool) {
            bytes[0] &= 63;
            if !spare {
                bytes[15] = 0;
            }
            let image = SpliceImage::from_bytes(bytes);
            if let Some(splice) = image.splice(ServiceId::new(3), v6) {
                prop_assert_eq!(SpliceImage::of(&splice), Some(image));
                prop_assert!(splice.phase != Phase::Waiting && splice.service == ServiceId::new(3));
            }
            let mut whole = bytes;
            whole[0] = JOINED | SCALED | SELECTIVE | CLOCKS | INTRODUCED | bytes[0] & BY_OPTION;
            whole[15] = 0;
            prop_assert!(SpliceImage::from_bytes(whole).splice(ServiceId::new(0), v6).is_some());
        }
    }

    #[test]
    fn what_is_still_being_begun_is_nobody_elses() {
        let offer = Offer { segment_size: 1_460, window_scale: Some(7), sack_permitted: true };
        let mut splice = Splice::new(ServiceId::new(0), SeqNumber::new(7), SeqNumber::new(9), offer);
        assert!(SpliceImage::of(&splice).is_none());
        splice.phase = Phase::Joined(SeqNumber::new(99));
        assert!(SpliceImage::of(&splice).is_some());
        splice.introducing = Some(Introducing::new(Introduction::ProxyV2));
        let lead = Lead::of(splice.opener, Introduction::ProxyV2, false);
        for (progress, carried) in [(Progress::Untold, false), (Progress::Told(3), false), (Progress::Heard, true)] {
            splice.shift.lead = Some(Lead { progress, ..lead });
            assert_eq!(SpliceImage::of(&splice).is_some(), carried);
        }
    }
}
