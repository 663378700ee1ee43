//! Publications that were passed on while sessions wait for what came before them.
//!
//! *Invariant:* they follow one another up to the topic's cursor.

use std::collections::VecDeque;

use bytes::Bytes;
use ringcast_proto::Offset;
use ringcast_proto::v1::Publication;

/// As many as an owner answers at most, and again as many: what is passed on in a second of a topic that is busy.
const LEN_MAX: usize = 4096;
/// As much as a join may recover.
const BYTES_MAX: usize = 1024 * 1024;

/// What a publication takes besides its bytes.
const OVERHEAD_BYTES: usize = 128;

/// The last publications up to the cursor.
#[derive(Debug)]
pub(crate) struct Kept {
    /// They follow this one.
    after: Offset,
    publications: VecDeque<Publication>,
    bytes: usize,
}

impl Kept {
    /// None yet, with the cursor at `cursor`.
    pub(super) fn from(cursor: Offset) -> Kept {
        Kept {
            after: cursor,
            publications: VecDeque::new(),
            bytes: 0,
        }
    }

    /// What is passed on now. At the bound the oldest go: who needs them begins at the head.
    pub(super) fn push(&mut self, publications: &[Publication]) {
        for publication in publications {
            self.bytes += size(publication);
            // Copied: a slice of a few bytes would keep all of the call that it came in.
            self.publications.push_back(Publication {
                event: Bytes::copy_from_slice(&publication.event),
                payload: Bytes::copy_from_slice(&publication.payload),
                ..publication.clone()
            });
        }
        while self.bytes > BYTES_MAX || self.publications.len() > LEN_MAX {
            let Some(oldest) = self.publications.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            self.after = Offset(oldest.offset);
        }
    }

    /// Everything it has after `offset`, up to the cursor; none if it lacks something of that.
    pub(crate) fn after(&self, offset: Offset) -> Option<Vec<Publication>> {
        let all = self.publications.iter();
        (offset >= self.after).then(|| {
            all.filter(|publication| publication.offset > offset.0)
                .cloned()
                .collect()
        })
    }
}

fn size(publication: &Publication) -> usize {
    publication.event.len() + publication.payload.len() + OVERHEAD_BYTES
}
