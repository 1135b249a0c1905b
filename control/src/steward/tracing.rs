//! A trace as control sees it: buffers lent to the workers, records passed on to whoever asked, and an end: when there are
//! as many as were wanted, when the time is over, or when nobody listens any more. One trace at a time.

use std::sync::Weak;

use crossbeam::channel::Sender;
use units::Nanos;
use worker::{Clock, Command, PacketMatch, Trace, TraceOrder, TraceRecord};

use super::Steward;

/// Records in one buffer.
const RECORDS: usize = 64;

/// Buffers lent to each worker: one is filled while the other is on its way.
const LENT: usize = 2;

/// What is asked.
#[derive(Debug)]
pub struct Tracing {
    /// Which packets.
    pub wanted: PacketMatch,
    /// How many at most.
    pub count: usize,
    /// For how long.
    pub span: Nanos,
    /// Who listens.
    pub reader: Sender<Traced>,
    /// Gone when nobody does.
    pub listener: Weak<()>,
}

/// What whoever asked hears. The channel closes after the end, or when the appliance stops.
#[derive(Debug)]
pub enum Traced {
    /// Another trace is under way.
    Busy,
    /// No packet that comes from now on is missed. Ways that one worker tells may come before.
    Begun,
    /// Ways of packets, and how many found no room.
    Records(Vec<TraceRecord>, u64),
    /// As many as were wanted (true), or the time is over (false).
    End(bool),
}

/// The trace under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    request: u64,
    asked: Tracing,
    /// Workers that have not begun yet.
    awaited: usize,
    left: usize,
    until: Nanos,
}

impl<C: Clock> Steward<C> {
    /// Begins a trace, unless another is under way.
    pub(super) fn begin_trace(&mut self, asked: Tracing) {
        if self.tracing.is_some() {
            let _ = asked.reader.send(Traced::Busy);
            return;
        }
        self.serial += 1;
        let (request, until) = (self.serial, self.clock.now() + asked.span);
        let order = TraceOrder { request, wanted: asked.wanted.clone(), count: asked.count, until };
        for line in &mut self.lines {
            for number in 0..LENT {
                line.send(Command::Trace(Box::new(Trace::new(order.clone(), number == 0, RECORDS))));
            }
        }
        self.tracing = Some(UnderWay { request, awaited: self.lines.len(), left: asked.count, asked, until });
    }

    /// A worker has begun a trace.
    pub(super) fn trace_begun(&mut self, request: u64) {
        let Some(tracing) = self.tracing.as_mut().filter(|tracing| tracing.request == request) else { return };
        tracing.awaited = tracing.awaited.saturating_sub(1);
        if tracing.awaited == 0 {
            let _ = tracing.asked.reader.send(Traced::Begun);
        }
    }

    /// A worker's records; its buffer goes back to it.
    pub(super) fn traced(&mut self, position: usize, mut trace: Box<Trace>) {
        let Some(tracing) = self.tracing.as_mut().filter(|tracing| tracing.request == trace.order.request) else {
            return;
        };
        let mut records = std::mem::replace(&mut trace.records, Vec::with_capacity(RECORDS));
        records.truncate(tracing.left);
        tracing.left -= records.len();
        let lost = std::mem::take(&mut trace.lost);
        let heard =
            (records.is_empty() && lost == 0) || tracing.asked.reader.send(Traced::Records(records, lost)).is_ok();
        if tracing.left == 0 {
            self.end_trace(Some(true));
        } else if !heard {
            self.end_trace(None);
        } else if !trace.over
            && let Some(line) = self.lines.get_mut(position)
        {
            trace.begins = false;
            line.send(Command::Trace(trace));
        }
    }

    /// Ends a trace whose time is over or that nobody listens to.
    pub(super) fn look_after_trace(&mut self) {
        let Some(tracing) = &self.tracing else { return };
        // Workers end by themselves at that moment; what they have found is given a little longer to arrive.
        if self.clock.now() >= tracing.until + Nanos::from_millis(100) {
            self.end_trace(Some(false));
        } else if tracing.asked.listener.strong_count() == 0 {
            self.end_trace(None);
        }
    }

    fn end_trace(&mut self, end: Option<bool>) {
        let Some(UnderWay { request, asked, .. }) = self.tracing.take() else { return };
        for line in &mut self.lines {
            line.send(Command::EndTrace { request });
        }
        if let Some(all) = end {
            let _ = asked.reader.send(Traced::End(all));
        }
    }
}
