//! Blocks of an object: fetched once, several at the same time, kept within a bound.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use calve_disk::units::in_memory;

use crate::error::Result;
use crate::limits::{BLOCK, FETCHERS, KEPT_BLOCKS, MOST_AHEAD, READERS, WAITING};
use crate::object::{Object, Tag};

/// The blocks of one object of one age.
pub(crate) struct Blocks {
    pub(crate) object: Object,
    pub(crate) size: u64,
    pub(crate) tag: Tag,
    state: Mutex<State>,
    /// Something came, or did not.
    came: Condvar,
    /// Something is to be fetched.
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    blocks: HashMap<u64, Block>,
    clock: u64,
    /// Where readers that read one block after the other are, and how far ahead of each was read.
    readers: VecDeque<(u64, u64)>,
    waiting: VecDeque<u64>,
    fetchers: usize,
    /// Fetchers that have nothing to do.
    idle: usize,
    is_closed: bool,
}

enum Block {
    /// It is on its way.
    Coming,
    Here {
        bytes: Box<[u8]>,
        used: u64,
    },
}

impl Blocks {
    /// The blocks of an object of that size and tag, of which the first one is `start`.
    pub(crate) fn new(object: Object, size: u64, tag: Tag, start: Vec<u8>) -> Arc<Self> {
        let mut state = State::default();
        if !start.is_empty() {
            state.blocks.insert(0, Block::Here { bytes: start.into(), used: 0 });
        }
        Arc::new(Self {
            object,
            size,
            tag,
            state: Mutex::new(state),
            came: Condvar::new(),
            wanted: Condvar::new(),
        })
    }

    /// Fills `out` from `at`, which the object has.
    pub(crate) fn read(&self, out: &mut [u8], at: u64) -> Result<()> {
        let end = at + out.len() as u64;
        let (first, behind) = (at / BLOCK, end.div_ceil(BLOCK));
        let mut state = self.lock();
        for number in first..behind {
            loop {
                match state.blocks.get(&number) {
                    Some(Block::Here { .. }) => break,
                    Some(Block::Coming) => {
                        state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    None => {
                        let fetched = state.next_fetch(number, behind, self.count());
                        drop(state);
                        self.fetch(fetched.0, fetched.1)?;
                        state = self.lock();
                    }
                }
            }
            state.copy(number, at, out);
        }
        Ok(())
    }

    /// Fetches the blocks of that range by other threads, as far as they may wait.
    pub(crate) fn want(self: &Arc<Self>, first: u64, behind: u64) {
        let mut state = self.lock();
        for number in first..behind.min(self.count()) {
            if state.waiting.len() >= WAITING {
                break;
            }
            if !state.blocks.contains_key(&number) && !state.waiting.contains(&number) {
                state.waiting.push_back(number);
            }
        }
        let lacking = state.waiting.len().saturating_sub(state.idle);
        let new = lacking.min(FETCHERS - state.fetchers.min(FETCHERS));
        for _ in 0..new {
            let blocks = Arc::clone(self);
            // Where no thread is to be had, whoever wants the block fetches it.
            let spawned = std::thread::Builder::new().spawn(move || blocks.run());
            state.fetchers += usize::from(spawned.is_ok());
        }
        drop(state);
        self.wanted.notify_all();
    }

    /// Fetches nothing any more that nobody waits for.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.wanted.notify_all();
    }

    /// A thread that fetches what is wanted.
    fn run(&self) {
        let mut state = self.lock();
        while !state.is_closed {
            match state.waiting.pop_front() {
                None => {
                    state.idle += 1;
                    state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.idle -= 1;
                }
                Some(number) if state.blocks.contains_key(&number) => {}
                Some(number) => {
                    let mut behind = number + 1;
                    while state.waiting.front() == Some(&behind) && behind - number < MOST_AHEAD {
                        state.waiting.pop_front();
                        behind += 1;
                    }
                    let (first, behind) = state.claim(number, behind);
                    drop(state);
                    // Whoever wants it tries again, and is told.
                    let _ = self.fetch(first, behind);
                    state = self.lock();
                }
            }
        }
    }

    /// Fetches blocks that are [`Block::Coming`].
    fn fetch(&self, first: u64, behind: u64) -> Result<()> {
        let at = first * BLOCK;
        let mut bytes = vec![0; in_memory((behind * BLOCK).min(self.size) - at)];
        let done = self.object.get(&mut bytes, at, self.size, &self.tag);
        let mut state = self.lock();
        for (number, block) in (first..behind).zip(bytes.chunks(in_memory(BLOCK))) {
            match &done {
                Ok(()) => state.put(number, block),
                Err(_) => {
                    state.blocks.remove(&number);
                }
            }
        }
        drop(state);
        self.came.notify_all();
        done
    }

    fn count(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at most a block behind that never comes; there are none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Which blocks to fetch for a reader that wants those up to `behind` and lacks `first`: more
    /// than that where it reads one after the other.
    fn next_fetch(&mut self, first: u64, behind: u64, count: u64) -> (u64, u64) {
        let known = self.readers.iter().position(|(next, _)| *next == first);
        let ahead = match known.and_then(|known| self.readers.remove(known)) {
            Some((_, ahead)) => (ahead * 2).min(MOST_AHEAD),
            None => 1,
        };
        let (first, behind) = self.claim(first, behind.max(first + ahead).min(count));
        if self.readers.len() >= READERS {
            self.readers.pop_front();
        }
        self.readers.push_back((behind, ahead));
        (first, behind)
    }

    /// Marks the blocks from `first` on as coming, up to one that is there or comes already.
    fn claim(&mut self, first: u64, behind: u64) -> (u64, u64) {
        let mut end = first;
        while end < behind && !self.blocks.contains_key(&end) {
            self.blocks.insert(end, Block::Coming);
            end += 1;
        }
        (first, end)
    }

    fn put(&mut self, number: u64, bytes: &[u8]) {
        self.clock += 1;
        let used = self.clock;
        self.blocks.insert(number, Block::Here { bytes: bytes.into(), used });
        if self.blocks.len() > KEPT_BLOCKS {
            self.forget();
        }
    }

    /// Forgets the half that was not asked for the longest.
    fn forget(&mut self) {
        let clock = |block: &Block| match block {
            Block::Coming => None,
            Block::Here { used, .. } => Some(*used),
        };
        let mut clocks: Vec<u64> = self.blocks.values().filter_map(clock).collect();
        clocks.sort_unstable();
        let Some(middle) = clocks.get(clocks.len() / 2).copied() else { return };
        self.blocks.retain(|_, block| clock(block).is_none_or(|used| used >= middle));
    }

    /// Copies what block `number` has of the bytes from `at`.
    fn copy(&mut self, number: u64, at: u64, out: &mut [u8]) {
        self.clock += 1;
        let clock = self.clock;
        if let Some(Block::Here { bytes, used }) = self.blocks.get_mut(&number) {
            *used = clock;
            let start = number * BLOCK;
            let from = in_memory(at.saturating_sub(start));
            let to = in_memory(start.saturating_sub(at));
            let length = (bytes.len() - from).min(out.len() - to);
            out[to..to + length].copy_from_slice(&bytes[from..from + length]);
        }
    }
}
