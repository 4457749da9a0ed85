//! Owns the write cache: which blocks are durable, and what a cut does to the others.
//!
//! It knows a file and nothing of FUSE; the same seed and the same calls give the same disk.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::io::Errno;

/// What reaches the disk or not as a whole, in bytes: the block of the file system on it.
pub const BLOCK_BYTES: usize = 4096;

/// A real cache has a size too: beyond 64 MiB the oldest block goes to the disk by itself.
const MAX_PENDING_BLOCKS: usize = 16_384;

/// What a cut did, in writes of one block each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutReport {
    /// Unflushed writes that reached the disk all the same.
    pub kept: u64,
    /// Unflushed writes that were lost.
    pub dropped: u64,
}

/// A disk image and the writes that are not yet on it.
#[derive(Debug)]
pub struct Cache {
    image: File,
    bytes: u64,
    /// The newest content of each block with an unflushed write: what reads answer.
    newest: HashMap<u64, Arc<[u8]>>,
    /// Every unflushed write in order, since at a cut an older one can survive a newer one.
    pending: VecDeque<(u64, Arc<[u8]>)>,
    has_power: bool,
    /// Flushes until the power goes by itself, and the `keep` of that cut.
    armed: Option<(u32, f64)>,
    /// What the last cut did.
    last: CutReport,
    random: SplitMix,
}

impl Cache {
    /// A cache before `image`, with power on. `seed` decides which blocks survive cuts.
    ///
    /// # Errors
    /// When the length of the image cannot be read.
    pub fn new(image: File, seed: u64) -> io::Result<Self> {
        let bytes = image.metadata()?.len();
        Ok(Self {
            image,
            bytes,
            newest: HashMap::new(),
            pending: VecDeque::new(),
            has_power: true,
            armed: None,
            last: CutReport { kept: 0, dropped: 0 },
            random: SplitMix(seed),
        })
    }

    /// Size of the disk in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Up to `length` bytes from `offset`, newest content first; shorter at the end of the disk.
    ///
    /// # Errors
    /// EIO while the power is off, or what reading the image gave.
    pub fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.require_power()?;
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut answer = vec![0; length.min(left)];
        for piece in pieces(offset, answer.len()) {
            let block = self.block(piece.block)?;
            answer[piece.at..piece.at + piece.length]
                .copy_from_slice(&block[piece.within..piece.within + piece.length]);
        }
        Ok(answer)
    }

    /// Takes a write into the cache.
    ///
    /// # Errors
    /// EIO while the power is off, ENOSPC beyond the end, or what reading or writing the image
    /// gave.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.require_power()?;
        let length = u64::try_from(data.len()).map_err(|_| Errno::NOSPC)?;
        if offset.checked_add(length).is_none_or(|end| end > self.bytes) {
            return Err(Errno::NOSPC.into());
        }
        for piece in pieces(offset, data.len()) {
            let mut block = self.block(piece.block)?.to_vec();
            block[piece.within..piece.within + piece.length]
                .copy_from_slice(&data[piece.at..piece.at + piece.length]);
            let block: Arc<[u8]> = block.into();
            self.newest.insert(piece.block, Arc::clone(&block));
            self.pending.push_back((piece.block, block));
        }
        self.overflow()
    }

    /// Makes everything written so far durable: the disk's FLUSH. Where [`Cache::cut_at_flush`] says so, the
    /// power goes instead.
    ///
    /// # Errors
    /// EIO while the power is off, or what writing the image gave.
    pub fn flush(&mut self) -> io::Result<()> {
        self.require_power()?;
        match self.armed {
            Some((0 | 1, keep)) => {
                self.cut(keep)?;
                return self.require_power();
            }
            Some((flushes, keep)) => self.armed = Some((flushes - 1, keep)),
            None => {}
        }
        for (block, data) in &self.newest {
            self.store(*block, data)?;
        }
        self.newest.clear();
        self.pending.clear();
        Ok(())
    }

    /// The power goes: each unflushed write reaches the disk with probability `keep` (0 to 1), all
    /// else is lost, and everything fails until [`Cache::power_on`]. A second cut does nothing, and tells what
    /// the first one did.
    ///
    /// # Errors
    /// What writing the image gave.
    pub fn cut(&mut self, keep: f64) -> io::Result<CutReport> {
        self.armed = None;
        if !self.has_power {
            return Ok(self.last);
        }
        self.has_power = false;
        let mut report = CutReport { kept: 0, dropped: 0 };
        self.newest.clear();
        for (block, data) in std::mem::take(&mut self.pending) {
            if self.random.unit() < keep {
                self.store(block, &data)?;
                report.kept += 1;
            } else {
                report.dropped += 1;
            }
        }
        self.last = report;
        Ok(report)
    }

    /// As [`Cache::cut`], when the flush with this number from now, 1 for the next, is asked for: at no other
    /// moment is as much unflushed.
    pub fn cut_at_flush(&mut self, flushes: u32, keep: f64) {
        self.armed = Some((flushes, keep));
    }

    /// Whether the power is on.
    pub fn has_power(&self) -> bool {
        self.has_power
    }

    /// The power is back, and the disk holds what survived.
    pub fn power_on(&mut self) {
        self.has_power = true;
    }

    fn require_power(&self) -> io::Result<()> {
        if self.has_power { Ok(()) } else { Err(Errno::IO.into()) }
    }

    /// The whole content of one block; zeros beyond the end of the image.
    fn block(&self, block: u64) -> io::Result<Arc<[u8]>> {
        if let Some(data) = self.newest.get(&block) {
            return Ok(Arc::clone(data));
        }
        let mut data = vec![0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            let at = start_of(block) + u64::try_from(filled).unwrap_or(0);
            match self.image.read_at(&mut data[filled..], at)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(data.into())
    }

    fn store(&self, block: u64, data: &[u8]) -> io::Result<()> {
        self.image.write_all_at(data, start_of(block))
    }

    fn overflow(&mut self) -> io::Result<()> {
        while self.pending.len() > MAX_PENDING_BLOCKS {
            let Some((block, data)) = self.pending.pop_front() else { break };
            self.store(block, &data)?;
            if self.newest.get(&block).is_some_and(|newest| Arc::ptr_eq(newest, &data)) {
                self.newest.remove(&block);
            }
        }
        Ok(())
    }
}

/// The part of a request that falls into one block.
struct Piece {
    block: u64,
    /// Where it starts within the block.
    within: usize,
    /// Where it starts within the request.
    at: usize,
    length: usize,
}

fn pieces(offset: u64, length: usize) -> impl Iterator<Item = Piece> {
    let block_bytes = BLOCK_BYTES as u64;
    let mut block = offset / block_bytes;
    let mut within = usize::try_from(offset % block_bytes).unwrap_or(0);
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = length - at;
        let piece = Piece { block, within, at, length: left.min(BLOCK_BYTES - within) };
        at += piece.length;
        block += 1;
        within = 0;
        (left > 0).then_some(piece)
    })
}

fn start_of(block: u64) -> u64 {
    block * BLOCK_BYTES as u64
}

/// Steele, Lea and Flood's SplitMix64: small, fast and the same on every machine.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    /// Evenly spread over 0 (included) to 1 (excluded).
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 53 bits fill the fraction of a double exactly.
        (z >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 64;

    fn cache(seed: u64) -> Cache {
        let image = tempfile::tempfile().unwrap();
        image.set_len((BLOCKS * BLOCK_BYTES) as u64).unwrap();
        Cache::new(image, seed).unwrap()
    }

    fn write_all_blocks(cache: &mut Cache, byte: u8) {
        cache.write(0, &vec![byte; BLOCKS * BLOCK_BYTES]).unwrap();
    }

    /// The first byte of every block, after the power came back.
    fn survivors(mut cache: Cache) -> Vec<u8> {
        cache.power_on();
        (0..BLOCKS).map(|block| cache.read(start_of(block as u64), 1).unwrap()[0]).collect()
    }

    #[test]
    fn reads_see_unflushed_writes_across_blocks() {
        let mut cache = cache(1);
        cache.write(4000, &[7; 200]).unwrap();
        assert_eq!(cache.read(3999, 202).unwrap(), [&[0][..], &[7; 200], &[0]].concat());
        cache.flush().unwrap();
        assert_eq!(cache.read(4000, 200).unwrap(), [7; 200]);
    }

    #[test]
    fn flushed_blocks_survive_and_others_do_not() {
        let mut cache = cache(1);
        write_all_blocks(&mut cache, 1);
        cache.flush().unwrap();
        write_all_blocks(&mut cache, 2);
        assert_eq!(cache.cut(0.0).unwrap(), CutReport { kept: 0, dropped: 64 });
        assert_eq!(survivors(cache), [1; BLOCKS]);
    }

    #[test]
    fn at_probability_one_everything_survives() {
        let mut cache = cache(1);
        write_all_blocks(&mut cache, 1);
        assert_eq!(cache.cut(1.0).unwrap(), CutReport { kept: 64, dropped: 0 });
        assert_eq!(survivors(cache), [1; BLOCKS]);
    }

    #[test]
    fn at_one_half_some_survive_and_the_seed_decides_which() {
        let run = |seed| {
            let mut cache = cache(seed);
            write_all_blocks(&mut cache, 1);
            let report = cache.cut(0.5).unwrap();
            assert_eq!(report.kept + report.dropped, 64);
            assert!((16..=48).contains(&report.kept), "{report:?}");
            survivors(cache)
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn an_older_write_can_survive_a_newer_one() {
        let mut cache = cache(3);
        write_all_blocks(&mut cache, 1);
        write_all_blocks(&mut cache, 2);
        cache.cut(0.5).unwrap();
        let left = survivors(cache);
        assert!(left.contains(&0) && left.contains(&1) && left.contains(&2), "{left:?}");
    }

    #[test]
    fn the_power_can_go_at_a_flush_and_a_later_cut_tells_what_was_lost() {
        let mut cache = cache(1);
        cache.cut_at_flush(2, 0.0);
        write_all_blocks(&mut cache, 1);
        cache.flush().unwrap();
        write_all_blocks(&mut cache, 2);
        assert!(cache.has_power());
        let error = cache.flush().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()));
        assert!(!cache.has_power());
        assert_eq!(cache.cut(1.0).unwrap(), CutReport { kept: 0, dropped: 64 });
        cache.power_on();
        cache.flush().unwrap();
        assert_eq!(survivors(cache), [1; BLOCKS]);
    }

    #[test]
    fn without_power_everything_is_an_io_error() {
        let mut cache = cache(1);
        cache.cut(0.0).unwrap();
        let is_eio = |error: io::Error| error.raw_os_error() == Some(Errno::IO.raw_os_error());
        assert!(is_eio(cache.write(0, &[1]).unwrap_err()));
        assert!(is_eio(cache.flush().unwrap_err()));
        assert!(is_eio(cache.read(0, 1).unwrap_err()));
        cache.power_on();
        assert_eq!(cache.read(0, 1).unwrap(), [0]);
    }

    #[test]
    fn the_end_of_the_disk_is_the_end() {
        let mut cache = cache(1);
        let end = cache.bytes();
        let error = cache.write(end - 1, &[1, 2]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        assert_eq!(cache.read(end - 1, 10).unwrap(), [0]);
        assert!(cache.read(end + 1, 10).unwrap().is_empty());
    }

    #[test]
    fn a_full_cache_writes_its_oldest_block_by_itself() {
        let mut cache = cache(1);
        cache.write(0, &[9; BLOCK_BYTES]).unwrap();
        for _ in 0..MAX_PENDING_BLOCKS {
            cache.write(start_of(1), &[1; BLOCK_BYTES]).unwrap();
        }
        let report = cache.cut(0.0).unwrap();
        assert_eq!(report.dropped, MAX_PENDING_BLOCKS as u64);
        assert_eq!(survivors(cache)[..3], [9, 0, 0]);
    }
}
