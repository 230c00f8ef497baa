//! Conversations that are kept. One thread owns the session's journal, as every call
//! of that may wait for a disk, and the prompt may wait for none: what is to be
//! written goes to it through a bounded channel, what became of it comes back with a
//! descriptor to poll.

pub(crate) mod contexts;
mod place;
mod settings;
mod shelf;
#[cfg(test)]
mod tests;
mod thread;

use std::collections::VecDeque;
use std::io::{self, PipeReader, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use protocol::{Piece, PieceKey};
use rustix::io::ioctl_fionbio;
use term::Secret;

pub(crate) use place::Place;
pub(crate) use settings::Settings;
pub(crate) use shelf::{Kept, Key, Now, Op, Shelf, Turn};

/// What a disk that takes nothing is given before it is given up.
const WAITING_MAX: usize = 4096;

/// What the thread is asked.
#[derive(Debug)]
enum Ask {
    /// Make a session with this passphrase, or open one.
    Unlock(Secret),
    /// Write this; it has that number.
    Keep(u64, Op),
    /// Read a conversation's turns.
    Read(Key),
    /// Pieces are this model's from now on.
    Model([u8; 32]),
    /// Tell which of these pieces are not kept, of which all that are take no more than
    /// so many MiB.
    Missing(Vec<PieceKey>, u32),
    /// Keep a piece.
    Store(Piece),
    /// Read a piece.
    Fetch(PieceKey),
    /// These pieces are a conversation's.
    Context(Key, Vec<PieceKey>),
    /// Write what there is, and end.
    Close,
}

/// What the thread says.
#[derive(Debug)]
pub(crate) enum News {
    /// The session is encrypted: [`Keeper::unlock`] opens it.
    Locked,
    /// It is new and is to be encrypted: [`Keeper::unlock`] makes it.
    WantsPassphrase,
    /// That was another passphrase; it is asked for again.
    WrongPassphrase,
    /// The session is open.
    Opened(Box<Opened>),
    /// It cannot be opened, for the reason given.
    Refused(String),
    /// What had this number, and all before it, is on the disk.
    Saved(u64),
    /// Something cannot be written, for the reason given. It is tried again.
    Failed(String),
    /// After a failure, all is on the disk.
    Resumed,
    /// The turns of a conversation.
    Read(Key, Result<Vec<Turn>, String>),
    /// Of the pieces that were asked about those that are not kept.
    Missing(Vec<PieceKey>),
    /// Whether this piece is kept now.
    Stored(PieceKey, bool),
    /// A piece, if it is there.
    Fetched(Piece),
    /// Everything is written, and the thread has ended.
    Closed,
}

/// What a session holds.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// Its conversations; that which was under way has its turns.
    pub(crate) chats: Vec<Kept>,
    /// Which one that is.
    pub(crate) current: Option<Key>,
    /// Lines that were typed, the oldest first.
    pub(crate) lines: Vec<String>,
    /// What was recovered or is lost, in one line.
    pub(crate) found: Option<String>,
}

/// The thread, seen from the prompt.
pub(crate) struct Keeper {
    asks: SyncSender<Ask>,
    news: Receiver<News>,
    heard: VecDeque<News>,
    wake: PipeReader,
    /// Number of the last thing that was to be written, and of the last that is.
    sent: u64,
    saved: u64,
    failing: bool,
    /// Why, as the thread last said.
    why: Option<String>,
    /// More was to be written than waits for a disk.
    given_up: bool,
}

impl Keeper {
    /// Starts the thread, which opens the session at `place`, or makes it.
    ///
    /// # Errors
    /// The system has no thread, or no descriptor.
    pub(crate) fn start(place: Place, encrypt: bool) -> io::Result<Self> {
        let (wake, waker) = io::pipe()?;
        for end in [wake.as_fd(), waker.as_fd()] {
            ioctl_fionbio(end, true)?;
        }
        let (asks, asked) = sync_channel(WAITING_MAX);
        let (say, news) = channel();
        let voice = thread::Voice::new(say, waker);
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || thread::run(&place, encrypt, &asked, &voice))?;
        Ok(Self {
            asks,
            news,
            heard: VecDeque::new(),
            wake,
            sent: 0,
            saved: 0,
            failing: false,
            why: None,
            given_up: false,
        })
    }

    /// What to poll to learn when there is news.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What has happened next; never waits.
    pub(crate) fn try_news(&mut self) -> Option<News> {
        // That there is news, often more than once; the news is in the channel.
        let _ = self.wake.read(&mut [0; 512]);
        let news = self.heard.pop_front().or_else(|| self.news.try_recv().ok());
        self.note(news)
    }

    /// What has happened next, within that time.
    pub(crate) fn next_news(&mut self, within: Duration) -> Option<News> {
        let news = match self.heard.pop_front() {
            Some(news) => Ok(news),
            None => self.news.recv_timeout(within),
        };
        match news {
            Ok(news) => self.note(Some(news)),
            Err(RecvTimeoutError::Timeout) => None,
            // It says so before it ends, unless it panicked.
            Err(RecvTimeoutError::Disconnected) => Some(News::Closed),
        }
    }

    fn note(&mut self, news: Option<News>) -> Option<News> {
        match &news {
            Some(News::Saved(number)) => (self.saved, self.failing) = (*number, self.given_up),
            Some(News::Failed(line)) => (self.failing, self.why) = (true, Some(line.clone())),
            Some(News::Resumed) => (self.failing, self.why) = (false, None),
            _ => {}
        }
        news
    }

    /// Opens an encrypted session, or makes it.
    pub(crate) fn unlock(&mut self, passphrase: Secret) {
        // The channel is empty: nothing is written before the session is open.
        let _ = self.asks.try_send(Ask::Unlock(passphrase));
    }

    /// Has these written, in this order.
    pub(crate) fn keep(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            if self.given_up {
                return;
            }
            let number = self.sent.saturating_add(1);
            if self.asks.try_send(Ask::Keep(number, op)).is_ok() {
                self.sent = number;
            } else {
                self.given_up = true;
                self.failing = true;
                let line = format!(
                    "the session's disk has not taken the last {WAITING_MAX} changes: nothing \
                     more is kept before zosia starts again [ZE-77]"
                );
                self.heard.push_back(News::Failed(line));
            }
        }
    }

    /// Has a conversation read: [`News::Read`].
    pub(crate) fn read(&mut self, key: Key) {
        if self.asks.try_send(Ask::Read(key)).is_err() {
            let why = "the session's disk does not answer [ZE-77]".to_owned();
            self.heard.push_back(News::Read(key, Err(why)));
        }
    }

    /// Pieces are those of `model` from now on, in the session that is open.
    pub(crate) fn set_model(&mut self, model: [u8; 32]) {
        // A disk that takes nothing any more keeps none, either.
        let _ = self.asks.try_send(Ask::Model(model));
    }

    /// Has it told which of these pieces are not kept: [`News::Missing`]. All that are take
    /// no more than `mib`.
    pub(crate) fn ask_missing(&mut self, keys: Vec<PieceKey>, mib: u32) {
        if self.asks.try_send(Ask::Missing(keys, mib)).is_err() {
            self.heard.push_back(News::Missing(Vec::new()));
        }
    }

    /// Has a piece kept: [`News::Stored`].
    pub(crate) fn store(&mut self, piece: Piece) {
        let key = piece.key;
        if self.asks.try_send(Ask::Store(piece)).is_err() {
            self.heard.push_back(News::Stored(key, false));
        }
    }

    /// Has a piece read: [`News::Fetched`].
    pub(crate) fn fetch(&mut self, key: PieceKey) {
        if self.asks.try_send(Ask::Fetch(key)).is_err() {
            let piece = Piece { key, bytes: None };
            self.heard.push_back(News::Fetched(piece));
        }
    }

    /// These pieces, of which each needs those before it, are a conversation's.
    pub(crate) fn set_context(&mut self, chat: Key, keys: Vec<PieceKey>) {
        // A disk that takes nothing any more keeps none, either.
        let _ = self.asks.try_send(Ask::Context(chat, keys));
    }

    /// Whether something is not on the disk yet, and it is not known that it cannot.
    pub(crate) fn owes(&self) -> bool {
        self.saved < self.sent && !self.failing
    }

    /// Ends the thread when everything is written; waits for that no longer than
    /// `patience`.
    ///
    /// # Errors
    /// One line: what is not on the disk.
    pub(crate) fn close(mut self, patience: Duration) -> Result<(), String> {
        let began = Instant::now();
        let mut asked = self.asks.try_send(Ask::Close).is_ok();
        while asked {
            match self.next_news(patience.saturating_sub(began.elapsed())) {
                Some(News::Closed) if self.saved >= self.sent => return Ok(()),
                Some(News::Closed) | None => asked = false,
                Some(_) => {}
            }
        }
        Err(self.why.unwrap_or_else(|| {
            let count = self.sent.saturating_sub(self.saved);
            format!("the session's disk has not taken the last {count} changes [ZE-77]")
        }))
    }
}
