//! Which source offset became which target offset.

/// Records that stand side by side on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) source: i64,
    pub(super) target: i64,
    pub(super) count: i64,
}

/// A stretch of a partition's map, as it is kept: one record of the progress topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    /// The source offset up to which, not with which, all is copied.
    pub(super) done: i64,
    /// The epoch of the source's leader that wrote what lies before it, where it is known.
    pub(super) epoch: Option<i32>,
    /// In the order of both sides.
    pub(super) runs: Vec<Run>,
}

/// Which source offset of a partition became which target offset: exact, whatever lies between the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetMap {
    done: i64,
    runs: Vec<Run>,
}

/// The first byte of a chunk: how the rest is written.
const VERSION: u8 = 1;

/// With so many runs a chunk is full, and the next one is begun. A chunk is written anew with each transaction until then.
const FULL: usize = 256;

impl Run {
    fn source_end(self) -> i64 {
        self.source + self.count
    }

    fn target_end(self) -> i64 {
        self.target + self.count
    }
}

/// Adds a copied record to the runs.
pub(super) fn push(runs: &mut Vec<Run>, source: i64, target: i64) {
    append(
        runs,
        Run {
            source,
            target,
            count: 1,
        },
    );
}

/// Adds a run behind the others.
pub(super) fn append(runs: &mut Vec<Run>, run: Run) {
    if let Some(last) = runs.last_mut()
        && last.source_end() == run.source
        && last.target_end() == run.target
    {
        last.count += run.count;
        return;
    }
    runs.push(run);
}

impl Chunk {
    pub(super) fn is_full(&self) -> bool {
        self.runs.len() >= FULL
    }

    /// Small numbers in few bytes: each run is written as its distances from the one before.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        into.clear();
        into.push(VERSION);
        write(into, self.done);
        write(into, self.epoch.map_or(-1, i64::from));
        let (mut source, mut target) = (0, 0);
        for run in &self.runs {
            write(into, run.source - source);
            write(into, run.target - target);
            write(into, run.count);
            (source, target) = (run.source_end(), run.target_end());
        }
    }

    /// None when it is not a chunk that this version can read.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let done = read(&mut rest)?;
        let epoch = match read(&mut rest)? {
            -1 => None,
            epoch => Some(i32::try_from(epoch).ok().filter(|epoch| *epoch >= 0)?),
        };
        let mut runs = Vec::new();
        let (mut source, mut target) = (0_i64, 0_i64);
        while !rest.is_empty() {
            let run = Run {
                source: source.checked_add(read(&mut rest)?)?,
                target: target.checked_add(read(&mut rest)?)?,
                count: read(&mut rest)?,
            };
            if run.source < source || run.target < target || run.count < 1 {
                return None;
            }
            source = run.source.checked_add(run.count)?;
            target = run.target.checked_add(run.count)?;
            runs.push(run);
        }
        Some(Self { done, epoch, runs })
    }
}

impl OffsetMap {
    /// Of a partition's chunks, in their order.
    pub(super) fn new<'a>(chunks: impl IntoIterator<Item = &'a Chunk>) -> Self {
        let mut map = Self::default();
        for chunk in chunks {
            map.done = map.done.max(chunk.done);
            map.runs.extend_from_slice(&chunk.runs);
        }
        map
    }

    /// The source offset up to which, not with which, all is copied.
    #[must_use]
    pub fn done(&self) -> i64 {
        self.done
    }

    /// Where a reader who comes to this source offset next goes on in the target: the first copied record that is not before it. None
    /// when it is not copied yet.
    #[must_use]
    pub fn target(&self, source: i64) -> Option<i64> {
        let index = self.runs.partition_point(|run| run.source_end() <= source);
        match self.runs.get(index) {
            Some(run) if run.source >= source => Some(run.target),
            Some(run) => Some(run.target + (source - run.source)),
            None if source <= self.done => Some(self.target_end()),
            None => None,
        }
    }

    /// The source offset of a record of the target. None when it is not one that was copied.
    #[must_use]
    pub fn source(&self, target: i64) -> Option<i64> {
        let index = self.runs.partition_point(|run| run.target_end() <= target);
        let run = self.runs.get(index)?;
        (run.target <= target).then(|| run.source + (target - run.target))
    }

    /// Where a reader who comes to this target offset next goes on in the source: the first copied record that is not before it there,
    /// or what is copied next.
    #[must_use]
    pub fn back(&self, target: i64) -> i64 {
        let index = self.runs.partition_point(|run| run.target_end() <= target);
        match self.runs.get(index) {
            Some(run) if run.target >= target => run.source,
            Some(run) => run.source + (target - run.target),
            None => self.done,
        }
    }

    /// What became of a range of source offsets, first and last: the target's ranges.
    #[must_use]
    pub fn range(&self, (first, last): (i64, i64)) -> Vec<(i64, i64)> {
        let index = self.runs.partition_point(|run| run.source_end() <= first);
        let runs = self.runs.iter().skip(index);
        runs.take_while(|run| run.source <= last)
            .map(|run| {
                let from = first.max(run.source) - run.source;
                let to = last.min(run.source_end() - 1) - run.source;
                (run.target + from, run.target + to)
            })
            .collect()
    }

    /// What a range of target offsets was, first and last: the source's ranges.
    #[must_use]
    pub fn range_back(&self, (first, last): (i64, i64)) -> Vec<(i64, i64)> {
        let index = self.runs.partition_point(|run| run.target_end() <= first);
        let runs = self.runs.iter().skip(index);
        runs.take_while(|run| run.target <= last)
            .map(|run| {
                let from = first.max(run.target) - run.target;
                let to = last.min(run.target_end() - 1) - run.target;
                (run.source + from, run.source + to)
            })
            .collect()
    }

    /// Whether this record of the source was copied.
    #[must_use]
    pub fn holds(&self, source: i64) -> bool {
        let index = self.runs.partition_point(|run| run.source_end() <= source);
        self.runs.get(index).is_some_and(|run| run.source <= source)
    }

    /// How many records were copied.
    #[must_use]
    pub fn records(&self) -> i64 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// The target offset behind the last copied record.
    #[must_use]
    pub fn target_end(&self) -> i64 {
        self.runs.last().map_or(0, |run| run.target_end())
    }

    /// The first source offset and target offset of the map.
    pub(super) fn first(&self) -> Option<(i64, i64)> {
        self.runs.first().map(|run| (run.source, run.target))
    }
}

/// Zigzag, then seven bits a byte, the lowest first.
fn write(into: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        into.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

fn read(bytes: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if shift == 63 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Copied records as (source, target), with gaps on both sides.
    fn copies() -> impl Strategy<Value = Vec<(i64, i64)>> {
        let gap = prop_oneof![4 => Just(0_i64), 1 => 1..5_i64];
        proptest::collection::vec((gap.clone(), gap), 0..200).prop_map(|gaps| {
            let (mut source, mut target) = (0, 0);
            gaps.into_iter()
                .map(|(before, behind)| {
                    source += before + 1;
                    target += behind + 1;
                    (source - 1, target - 1)
                })
                .collect()
        })
    }

    fn chunk(copies: &[(i64, i64)], done: i64) -> Chunk {
        let mut runs = Vec::new();
        for (source, target) in copies {
            push(&mut runs, *source, *target);
        }
        Chunk {
            done,
            epoch: None,
            runs,
        }
    }

    proptest! {
        #[test]
        fn a_reader_goes_on_at_the_first_record_that_is_not_done(copies in copies(), cut in 0..200_usize, beyond in 0..4_i64) {
            let done = copies.last().map_or(0, |(source, _)| source + 1) + beyond;
            let cut = cut.min(copies.len());
            let chunks = [chunk(&copies[..cut], done.min(cut as i64)), chunk(&copies[cut..], done)];
            let map = OffsetMap::new(&chunks);
            for offset in 0..=done + 2 {
                let next = copies.iter().find(|(source, _)| *source >= offset);
                let end = copies.last().map_or(0, |(_, target)| target + 1);
                let expected = match next {
                    Some((_, target)) => Some(*target),
                    None => (offset <= done).then_some(end),
                };
                prop_assert_eq!(map.target(offset), expected, "{}", offset);
            }
            for (source, target) in &copies {
                prop_assert_eq!(map.source(*target), Some(*source));
                prop_assert!(map.holds(*source));
            }
            let end = copies.last().map_or(0, |(_, target)| target + 1);
            for offset in 0..=end + 2 {
                let next = copies.iter().find(|(_, target)| *target >= offset);
                prop_assert_eq!(map.back(offset), next.map_or(done, |(source, _)| *source), "{}", offset);
            }
            prop_assert_eq!(map.records(), copies.len() as i64);
        }

        #[test]
        fn a_range_has_its_records_on_the_other_side_and_no_others(copies in copies(), first in 0..200_i64, length in 0..40_i64) {
            let map = OffsetMap::new(&[chunk(&copies, 1_000)]);
            let range = (first, first + length);
            let within = |ranges: &[(i64, i64)]| -> Vec<i64> {
                ranges.iter().flat_map(|(first, last)| *first..=*last).collect()
            };
            let holds = |offset: &i64| (range.0..=range.1).contains(offset);
            let targets: Vec<i64> = copies.iter().filter(|(source, _)| holds(source)).map(|(_, target)| *target).collect();
            prop_assert_eq!(within(&map.range(range)), targets);
            let sources: Vec<i64> = copies.iter().filter(|(_, target)| holds(target)).map(|(source, _)| *source).collect();
            prop_assert_eq!(within(&map.range_back(range)), sources);
        }

        #[test]
        fn a_chunk_is_read_as_it_was_written(copies in copies(), done in 0..i64::MAX, epoch in proptest::option::of(0..i32::MAX)) {
            let chunk = Chunk { epoch, ..chunk(&copies, done) };
            let mut bytes = Vec::new();
            chunk.encode(&mut bytes);
            prop_assert_eq!(Chunk::decode(&bytes), Some(chunk));
        }

        #[test]
        fn damaged_chunks_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Chunk::decode(&bytes);
        }
    }

    #[test]
    fn neighbours_on_both_sides_are_one_run() {
        let chunk = chunk(&[(0, 5), (1, 6), (2, 7), (4, 8), (5, 10)], 6);
        assert_eq!(chunk.runs.len(), 3);
        let mut bytes = Vec::new();
        chunk.encode(&mut bytes);
        assert_eq!(bytes.len(), 3 + 3 * 3);
    }
}
