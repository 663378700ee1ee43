//! What waits to be written to one client, and what becomes of it when the client reads too slowly.
//!
//! *Invariant:* what waits is bounded in bytes, in frames and in time, besides one close frame; whatever is left out of a
//! channel with positions is told by a gap in its place, before anything later of that channel; a frame that was begun is
//! finished, and one that may not be left out is written or the connection ends; empty for a while, it holds no queue.
//! Leaves out: sockets, and the closing itself (the shell).

mod said;
mod shed;
mod slow;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::{Millis, Offset};

use crate::place::{GapReason, Place, Sort, Stream};
use slow::Slow;

pub use said::{Flushed, Lost, Pushed, Stats, Ticked, Why};

/// Most bytes that wait, besides replays.
pub const BYTES_MAX: usize = 1024 * 1024;
/// Most frames that wait, besides replays.
pub const FRAMES_MAX: usize = 1000;
/// Most bytes of replays: with the rest 4 MiB a connection.
pub const REPLAY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most frames of replays: all channels of a connection that missed as many as may be recovered.
pub const REPLAY_FRAMES_MAX: usize = 30_000;
/// Longest time a frame waits.
pub const AGE_MAX: Duration = Duration::from_secs(10);
/// A client that loses publications has to catch up within this time.
pub const SLOW_MAX: Duration = Duration::from_secs(30);
/// A client that wants only the newest may take its time, but has to take something within this.
pub const STUCK_MAX: Duration = Duration::from_secs(10);

/// Frames of one write. Enough for a burst, few enough for the stack.
const FRAMES_PER_WRITE: usize = 64;

/// Most writes are of fewer, and making room for all takes as long as everything else here.
const FRAMES_PER_SMALL_WRITE: usize = 8;

/// Room for so many is kept from one write to the next: a client that is written to often should not cost an allocation
/// each time. One that is not gives it back ([`Outbox::tick`]).
const FRAMES_KEPT: usize = 128;

/// Frames for one client, in order.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: VecDeque<Waiting>,
    live: Held,
    replay: Held,
    /// So much of the first frame is written.
    begun: usize,
    sent_bytes: u64,
    /// Kept from the first loss on, for it counts.
    slow: Option<Box<Slow>>,
    /// Something was written since the last look at the time.
    progressed: bool,
    closing: bool,
    /// What is to go wrong.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<crate::planted::PlantedBug>,
}

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    /// Empty for a gap that was not encoded yet.
    bytes: Bytes,
    since: Millis,
    what: What,
}

#[derive(Debug)]
enum What {
    /// May not be left out.
    Kept,
    /// The same: a gap of the owner's making, which no other may reach beyond.
    Told(Arc<Stream>),
    /// Of a channel with positions.
    Publication(Place),
    /// Stands for publications that were left out.
    Gap(Box<Gap>),
}

#[derive(Debug)]
struct Gap {
    stream: Arc<Stream>,
    from: Offset,
    to: Offset,
}

/// A share of what waits. Gaps are not counted: each stands for something that was.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    frames: usize,
    bytes: usize,
}

impl Outbox {
    /// Puts a frame behind the others; with a place it is a publication that may be left out where its channel's policy
    /// says so. At a bound it makes room, or says that the client is to be closed.
    ///
    /// Publications whose places share one stream (the same `Arc`) may be told as missing together, unless one of them that
    /// is written, or a gap of the owner's making, stands between.
    #[inline]
    pub fn push(&mut self, frame: Bytes, place: Option<Place>, now: Millis) -> Pushed {
        if self.closing {
            return Pushed::Closing;
        }
        let fits = self.has_room(frame.len(), place.as_ref());
        let replay = place.as_ref().is_some_and(|place| place.sort == Sort::Missed);
        let what = match place {
            None => What::Kept,
            Some(place) if place.sort == Sort::Gap => What::Told(place.stream),
            Some(place) => What::Publication(place),
        };
        let first = self.put(frame, what, now);
        match (fits, first) {
            (true, true) => Pushed::First,
            (true, false) => Pushed::Queued,
            (false, _) => self.overflow(replay, now),
        }
    }

    #[cold]
    fn overflow(&mut self, replay: bool, now: Millis) -> Pushed {
        if self.make_room(replay, now) {
            return Pushed::Shed;
        }
        self.take_back();
        Pushed::Slow(Why::Full)
    }

    /// Whether such a frame may be pushed without anything being left out for it.
    #[must_use]
    #[inline]
    pub fn has_room(&self, frame_bytes: usize, place: Option<&Place>) -> bool {
        match place {
            Some(place) if place.sort == Sort::Missed => self.replay.takes(frame_bytes, REPLAY),
            _ => self.live.takes(frame_bytes, LIVE),
        }
    }

    /// Puts the last frame there will be. The first close wins.
    pub fn close(&mut self, frame: Bytes, now: Millis) {
        if !self.closing {
            self.closing = true;
            self.put(frame, What::Kept, now);
        }
    }

    /// Forgets what is not begun.
    pub fn drop_waiting(&mut self) {
        self.waiting.truncate(usize::from(self.begun > 0));
        (self.live, self.replay) = Default::default();
        if let Some(begun) = self.waiting.front() {
            self.count(begun.kind(), begun.bytes.len());
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether its last frame was put.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// How it stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let slow = self.slow.as_deref();
        let bytes = self.live.bytes + self.replay.bytes;
        Stats {
            frames: self.waiting.len(),
            // What is begun may be a gap, which is not counted.
            bytes: bytes.saturating_sub(self.begun),
            oldest: self.waiting.front().map(|front| front.since),
            sent_bytes: self.sent_bytes,
            dropped: slow.map_or(0, |slow| slow.dropped),
            gaps: slow.map_or(0, |slow| slow.gaps),
            slow: slow.is_some_and(|slow| slow.since.is_some()),
        }
    }

    /// What was left out since the last time this was asked.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.slow.as_mut()?.lost.take()
    }

    /// Hands frames to `write`, many at a time, until it takes no more.
    ///
    /// # Errors
    /// Those of `write`, but for the two that only mean "later" and "again".
    pub fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        while !self.waiting.is_empty() {
            self.encode_gaps();
            let written = match self.waiting.len() <= FRAMES_PER_SMALL_WRITE {
                true => self.write_next::<FRAMES_PER_SMALL_WRITE>(&mut write),
                false => self.write_next::<FRAMES_PER_WRITE>(&mut write),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.waiting.capacity() > FRAMES_KEPT {
            self.waiting = VecDeque::new();
        }
        if let Some(slow) = &mut self.slow {
            slow.since = None;
        }
        Ok(Flushed::All)
    }

    /// Hands the next frames to `write`, up to `N`.
    fn write_next<const N: usize>(
        &self,
        write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); N];
        let mut begun = self.begun;
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.waiting) {
            *slice = IoSlice::new(&frame.bytes[std::mem::take(&mut begun)..]);
            count += 1;
        }
        write(&slices[..count])
    }

    /// Encodes the gaps among the next frames: only now it is certain that they grow no more.
    fn encode_gaps(&mut self) {
        if self.slow.is_none() {
            return;
        }
        for waiting in self.waiting.iter_mut().take(FRAMES_PER_WRITE) {
            if let What::Gap(gap) = &waiting.what
                && waiting.bytes.is_empty()
            {
                waiting.bytes = gap.stream.gap(gap.from, gap.to, GapReason::SlowConsumer).0;
            }
        }
    }

    /// `true`: it is the only one.
    fn put(&mut self, bytes: Bytes, what: What, since: Millis) -> bool {
        let first = self.waiting.is_empty();
        let waiting = Waiting { bytes, since, what };
        self.count(waiting.kind(), waiting.bytes.len());
        self.waiting.push_back(waiting);
        first
    }

    fn advance(&mut self, written: usize) {
        self.progressed = true;
        self.sent_bytes += written as u64;
        self.begun += written;
        while let Some(front) = self.waiting.front()
            && front.bytes.len() <= self.begun
            && !front.is_unencoded()
        {
            let (len, kind) = (front.bytes.len(), front.kind());
            self.begun -= len;
            match kind {
                Kind::Live => self.live.remove(len),
                Kind::Replay => self.replay.remove(len),
                Kind::Gap => self.slow.iter_mut().for_each(|slow| slow.gaps += 1),
            }
            self.waiting.pop_front();
        }
    }

    /// Takes back the frame that was put last.
    fn take_back(&mut self) {
        let Some(last) = self.waiting.pop_back() else {
            return;
        };
        match last.kind() {
            Kind::Live => self.live.remove(last.bytes.len()),
            Kind::Replay => self.replay.remove(last.bytes.len()),
            Kind::Gap => {}
        }
    }

    fn count(&mut self, kind: Kind, frame_bytes: usize) {
        match kind {
            Kind::Live => self.live.add(frame_bytes),
            Kind::Replay => self.replay.add(frame_bytes),
            Kind::Gap => {}
        }
    }
}

/// Whose bound a frame counts against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Replay,
    /// Nobody's.
    Gap,
}

impl Waiting {
    fn kind(&self) -> Kind {
        match &self.what {
            What::Publication(place) if place.sort == Sort::Missed => Kind::Replay,
            What::Kept | What::Told(_) | What::Publication(_) => Kind::Live,
            What::Gap(_) => Kind::Gap,
        }
    }

    /// A gap beyond the frames of the last write: that it has no bytes does not mean that it was written.
    fn is_unencoded(&self) -> bool {
        matches!(self.what, What::Gap(_)) && self.bytes.is_empty()
    }
}

const LIVE: Held = Held {
    frames: FRAMES_MAX,
    bytes: BYTES_MAX,
};
const REPLAY: Held = Held {
    frames: REPLAY_FRAMES_MAX,
    bytes: REPLAY_BYTES_MAX,
};

impl Held {
    fn add(&mut self, frame_bytes: usize) {
        self.frames += 1;
        self.bytes += frame_bytes;
    }

    fn remove(&mut self, frame_bytes: usize) {
        self.frames -= 1;
        self.bytes -= frame_bytes;
    }

    /// Whether one more frame of so many bytes stays within `bound`.
    fn takes(self, frame_bytes: usize, bound: Held) -> bool {
        self.frames < bound.frames && self.bytes + frame_bytes <= bound.bytes
    }

    fn is_within(self, bound: Held) -> bool {
        self.frames <= bound.frames && self.bytes <= bound.bytes
    }

    /// So many parts of it in eight.
    fn eighths(self, parts: usize) -> Held {
        Held {
            frames: self.frames * parts / 8,
            bytes: self.bytes * parts / 8,
        }
    }
}
