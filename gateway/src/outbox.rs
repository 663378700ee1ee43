//! What waits to be written to one client.
//!
//! *Invariant:* at most [`BYTES_MAX`] and [`FRAMES_MAX`] wait, besides one close frame; a frame that was begun is
//! finished, whatever else is dropped; empty, it holds no memory.
//! Leaves out: what becomes of a client that does not read (`connection`).

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use bytes::Bytes;
use ringcast_proto::Millis;

/// Most bytes that wait.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;

/// Most frames that wait.
pub(crate) const FRAMES_MAX: usize = 1000;

/// Longest time a frame waits.
pub(crate) const AGE_MAX: Duration = Duration::from_secs(10);

/// Frames of one write. Enough for a burst, few enough for the stack.
const FRAMES_PER_WRITE: usize = 64;

/// Frames for one client, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<(Bytes, Millis)>,
    bytes: usize,
    /// So much of the first frame is written.
    begun: usize,
    closing: bool,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is the only one: somebody has to write it.
    First,
    /// It waits behind others, which somebody writes already.
    Queued,
    /// Nothing follows a close frame.
    Closing,
    /// There was no room.
    Full,
}

/// How a write ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits any more.
    All,
    /// The socket takes no more now.
    Blocked,
}

impl Outbox {
    pub(crate) fn push(&mut self, frame: Bytes, now: Millis) -> Pushed {
        if self.closing {
            return Pushed::Closing;
        }
        if !self.has_room(frame.len()) {
            return Pushed::Full;
        }
        self.put(frame, now)
    }

    /// Whether a frame of so many bytes may be pushed.
    pub(crate) fn has_room(&self, frame_bytes: usize) -> bool {
        self.frames.len() < FRAMES_MAX && self.bytes + frame_bytes <= BYTES_MAX
    }

    /// Puts the last frame there will be. The first close wins.
    pub(crate) fn close(&mut self, frame: Bytes, now: Millis) {
        if !self.closing {
            self.closing = true;
            self.put(frame, now);
        }
    }

    /// Forgets what is not begun.
    pub(crate) fn drop_waiting(&mut self) {
        self.frames.truncate(usize::from(self.begun > 0));
        self.bytes = self.frames.iter().map(|(frame, _)| frame.len()).sum();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether the oldest frame has waited too long.
    pub(crate) fn is_overdue(&self, now: Millis) -> bool {
        self.frames
            .front()
            .is_some_and(|(_, since)| now.since(*since) > AGE_MAX)
    }

    /// Hands frames to `write`, many at a time, until it takes no more.
    pub(crate) fn flush(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<Flushed> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE];
            let mut begun = self.begun;
            let mut count = 0;
            for (slice, (frame, _)) in slices.iter_mut().zip(&self.frames) {
                *slice = IoSlice::new(&frame[std::mem::take(&mut begun)..]);
                count += 1;
            }
            match write(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flushed::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.frames = VecDeque::new();
        Ok(Flushed::All)
    }

    fn put(&mut self, frame: Bytes, now: Millis) -> Pushed {
        let first = self.frames.is_empty();
        self.bytes += frame.len();
        self.frames.push_back((frame, now));
        if first { Pushed::First } else { Pushed::Queued }
    }

    fn advance(&mut self, written: usize) {
        self.begun += written;
        while let Some((frame, _)) = self.frames.front()
            && frame.len() <= self.begun
        {
            self.begun -= frame.len();
            self.bytes -= frame.len();
            self.frames.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1);

    /// A socket that takes `takes` bytes a write, then blocks.
    fn write_into(out: &mut Vec<u8>, takes: &mut Vec<usize>, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(take) = takes.pop() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let bytes: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .take(take)
            .collect();
        out.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    #[test]
    fn a_burst_is_one_write_and_leaves_no_memory() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push("a".into(), NOW), Pushed::First);
        for _ in 1..64 {
            assert_eq!(outbox.push("b".into(), NOW), Pushed::Queued);
        }
        let mut writes = 0;
        let flushed = outbox.flush(|slices| {
            writes += 1;
            Ok(slices.iter().map(|slice| slice.len()).sum())
        });
        assert_eq!((flushed.unwrap(), writes), (Flushed::All, 1));
        assert_eq!((outbox.frames.capacity(), outbox.bytes), (0, 0));
    }

    #[test]
    fn bytes_leave_in_order_however_little_the_socket_takes() {
        for take in 1..12 {
            let (mut outbox, mut out) = (Outbox::default(), Vec::new());
            for frame in ["one", "", "two", "three"] {
                outbox.push(frame.into(), NOW);
            }
            loop {
                let mut takes = vec![take];
                if outbox
                    .flush(|slices| write_into(&mut out, &mut takes, slices))
                    .unwrap()
                    == Flushed::All
                {
                    break;
                }
            }
            assert_eq!(out, b"onetwothree");
            assert_eq!((outbox.bytes, outbox.begun), (0, 0));
        }
    }

    #[test]
    fn c12_both_bounds_hold() {
        let mut outbox = Outbox::default();
        for _ in 0..FRAMES_MAX {
            assert_ne!(outbox.push("x".into(), NOW), Pushed::Full);
        }
        assert_eq!(outbox.push("x".into(), NOW), Pushed::Full);
        let mut outbox = Outbox::default();
        assert_eq!(outbox.push(vec![0; BYTES_MAX].into(), NOW), Pushed::First);
        assert_eq!(outbox.push("x".into(), NOW), Pushed::Full);
    }

    #[test]
    fn c12_a_frame_that_was_begun_is_finished_before_the_close() {
        let (mut outbox, mut out) = (Outbox::default(), Vec::new());
        outbox.push("begun".into(), NOW);
        outbox.push("dropped".into(), NOW);
        let mut takes = vec![2];
        assert_eq!(
            outbox
                .flush(|slices| write_into(&mut out, &mut takes, slices))
                .unwrap(),
            Flushed::Blocked
        );
        outbox.drop_waiting();
        outbox.close("close".into(), NOW);
        outbox.close("another".into(), NOW);
        assert_eq!(outbox.push("late".into(), NOW), Pushed::Closing);
        let mut takes = vec![100];
        assert_eq!(
            outbox
                .flush(|slices| write_into(&mut out, &mut takes, slices))
                .unwrap(),
            Flushed::All
        );
        assert_eq!(String::from_utf8(out).unwrap(), "begunclose");
    }

    #[test]
    fn the_oldest_frame_tells_the_age() {
        let mut outbox = Outbox::default();
        outbox.push("old".into(), NOW);
        outbox.push("new".into(), NOW + AGE_MAX);
        assert!(!outbox.is_overdue(NOW + AGE_MAX));
        assert!(outbox.is_overdue(NOW + AGE_MAX + Duration::from_millis(1)));
    }
}
