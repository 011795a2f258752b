//! The temporary files of a store: their names, and their removal.
//!
//! A disk can take milliseconds to free the blocks of one file (`discard`). So a thread of its own
//! removes what is left of a change, and no change waits for it. It collects replaced files for a
//! moment, so that many changes wake it once.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// The suffix of temporary files, which are not records.
pub(super) const SUFFIX: &str = ".tmp";

/// How many files are still removed when the store is closed. The next start removes the others.
const MAX_REMOVED_AT_END: usize = 100;

/// How long replaced files are collected before the thread removes them.
const COLLECTED: Duration = Duration::from_millis(100);

/// The temporary files of a store. Dropping it ends the thread.
pub(super) struct TemporaryFiles {
    shared: Arc<Shared>,
    remover: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the thread.
    wanted: Condvar,
    /// Wakes those that wait for the thread.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Names that are used, also those of files that are still to be removed.
    used: HashSet<OsString>,
    /// The number in the last name whose simple form was used.
    last_number: u64,
    leftovers: VecDeque<PathBuf>,
    /// Whether the thread waits for the first file.
    is_idle: bool,
    /// Whether a file is removed without collecting others first.
    is_urgent: bool,
    /// How many wait for the thread, so that it does not collect files.
    hurried: usize,
    is_removing: bool,
    is_closed: bool,
}

/// A name for a temporary file. Dropping it removes the file.
pub(super) struct TemporaryFile {
    path: PathBuf,
    exists: bool,
    /// Whether the file is one that was replaced. Each change leaves one.
    is_replaced: bool,
    shared: Arc<Shared>,
}

impl TemporaryFiles {
    /// Starts the thread that removes files.
    pub(super) fn start() -> std::io::Result<TemporaryFiles> {
        let shared = Arc::<Shared>::default();
        let of_thread = Arc::clone(&shared);
        let remover = std::thread::Builder::new()
            .name("leftovers".to_string())
            .spawn(move || of_thread.remove_leftovers())?;
        Ok(TemporaryFiles {
            shared,
            remover: Some(remover),
        })
    }

    /// Returns an unused name beside `path`: `.STEM.tmp`, or one with a number, such as `.STEM.7.tmp`,
    /// if that is used.
    pub(super) fn name(&self, path: &Path) -> TemporaryFile {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut state = self.shared.state.lock();
        let mut path = path.with_file_name(format!(".{stem}{SUFFIX}"));
        while !state.used.insert(path.as_os_str().to_os_string()) {
            state.last_number += 1;
            path.set_file_name(format!(".{stem}.{}{SUFFIX}", state.last_number));
        }
        TemporaryFile {
            path,
            exists: false,
            is_replaced: false,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Removes a file that an earlier process left.
    pub(super) fn remove(&self, path: PathBuf) {
        let name = path.as_os_str().to_os_string();
        if self.shared.state.lock().used.insert(name) {
            self.shared.discard(path, true);
        }
    }

    /// Waits until the disk has the room of every leftover again.
    pub(super) fn make_room(&self) {
        let is_done = |state: &State| !state.is_removing && state.leftovers.is_empty();
        self.shared.wait_until(is_done);
    }

    /// Waits until there is no temporary file.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.shared.wait_until(|state| state.used.is_empty());
    }
}

impl Drop for TemporaryFiles {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.wanted.notify_all();
        if let Some(remover) = self.remover.take() {
            // Another store may open the directory then, and use the same names.
            let _ = remover.join();
        }
    }
}

impl Shared {
    fn discard(&self, path: PathBuf, is_urgent: bool) {
        let mut state = self.state.lock();
        state.leftovers.push_back(path);
        state.is_urgent |= is_urgent;
        let was_idle = std::mem::take(&mut state.is_idle);
        drop(state);
        if was_idle || is_urgent {
            self.wanted.notify_all();
        }
    }

    fn release(&self, path: &Path) {
        self.state.lock().used.remove(path.as_os_str());
        self.changed.notify_all();
    }

    /// Waits for the thread, which does not collect files meanwhile.
    fn wait_until(&self, is_done: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        state.hurried += 1;
        self.wanted.notify_all();
        while !is_done(&state) {
            self.changed.wait(&mut state);
        }
        state.hurried -= 1;
    }

    fn remove_leftovers(&self) {
        let mut at_end = MAX_REMOVED_AT_END;
        loop {
            let mut state = self.state.lock();
            if state.is_closed {
                if at_end == 0 || state.leftovers.is_empty() {
                    return;
                }
                at_end -= 1;
            }
            let Some(path) = state.leftovers.pop_front() else {
                state.is_urgent = false;
                state.is_idle = true;
                self.wanted.wait(&mut state);
                if !state.is_urgent && state.hurried == 0 && !state.is_closed {
                    self.wanted.wait_for(&mut state, COLLECTED);
                }
                state.is_idle = false;
                continue;
            };
            state.is_removing = true;
            drop(state);
            let _ = fs::remove_file(&path);
            self.state.lock().is_removing = false;
            self.release(&path);
        }
    }
}

impl TemporaryFile {
    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether there is a file with this name.
    pub(super) fn is_kept(&self) -> bool {
        self.exists
    }

    /// Notes that there is a file now.
    pub(super) fn exists(&mut self) {
        self.exists = true;
    }

    /// Notes that this is a name of a file that is being replaced.
    pub(super) fn keeps_replaced(&mut self) {
        self.exists = true;
        self.is_replaced = true;
    }

    /// Notes that the file has another name now.
    pub(super) fn moved(&mut self) {
        self.exists = false;
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        match self.exists {
            true => self.shared.discard(path, !self.is_replaced),
            false => self.shared.release(&path),
        }
    }
}
