//! The thread that owns the journal: what it is asked for is written in its order, and
//! tried again where the disk takes nothing. It may wait for the disk for ever.

use std::collections::{BTreeMap, VecDeque};
use std::io::{PipeWriter, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use journal::{Chat, ChatId, Disk, Error, Found, Journal, Model, State, look};
use protocol::{Message, Piece, PieceKey};
use sha2::{Digest as _, Sha256};
use term::Secret;

use super::contexts;
use super::shelf::turns_of;
use super::{Ask, Kept, Key, News, Op, Opened, Place, Settings, Turn, WAITING_MAX};
use crate::host::chain;

/// How often writing is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How the thread is heard.
pub(super) struct Voice {
    news: Sender<News>,
    wake: PipeWriter,
}

impl Voice {
    pub(super) fn new(news: Sender<News>, wake: PipeWriter) -> Self {
        Self { news, wake }
    }

    fn say(&self, news: News) {
        // Nobody hears any more when the prompt has ended.
        let _ = self.news.send(news);
        // A full pipe wakes, too.
        let _ = (&self.wake).write(&[0]);
    }
}

/// Opens the session at `place`, or makes it, and writes what it is asked to.
pub(super) fn run(place: &Place, encrypt: bool, asked: &Receiver<Ask>, voice: &Voice) {
    match open(place, encrypt, asked, voice) {
        Ok(Some((journal, opened))) => {
            let keys = opened.chats.iter().map(|chat| chat.key);
            let ids = keys.zip(journal.chats().iter().map(|chat| chat.id));
            let writer = Writer {
                ids: ids.collect(),
                current: journal.current().map(|chat| chat.id),
                model: [0; 32],
                journal,
            };
            voice.say(News::Opened(Box::new(opened)));
            writer.serve(asked, voice);
        }
        // Nobody waits for it any more.
        Ok(None) => {}
        Err(line) => voice.say(News::Refused(line)),
    }
    voice.say(News::Closed);
}

/// The journal and what is in it; `None` if it is not wanted any more.
fn open(
    place: &Place,
    encrypt: bool,
    asked: &Receiver<Ask>,
    voice: &Voice,
) -> Result<Option<(Journal, Opened)>, String> {
    let disk: Box<dyn Disk> = Box::new(place.open()?);
    let refused = |e: Error| chain(&e);
    let (journal, found) = match look(disk.as_ref()).map_err(refused)? {
        State::Empty => {
            let passphrase = if encrypt {
                voice.say(News::WantsPassphrase);
                match passphrase(asked) {
                    None => return Ok(None),
                    some => some,
                }
            } else {
                None
            };
            let made = Journal::create(disk, passphrase.as_ref().map(Secret::text));
            (made.map_err(refused)?, Found::default())
        }
        State::Plain if encrypt => {
            let line = "this session is there already and is not encrypted: leave out --encrypt, \
                        or begin another [ZE-74]";
            return Err(line.to_owned());
        }
        State::Plain => Journal::open(disk, None).map_err(refused)?,
        State::Encrypted => {
            voice.say(News::Locked);
            match unlock(disk, place, asked, voice)? {
                None => return Ok(None),
                Some(opened) => opened,
            }
        }
    };
    let opened = contents(&journal, &found).map_err(refused)?;
    Ok(Some((journal, opened)))
}

/// Tries passphrases until one is right; `None`: there are no more.
fn unlock(
    mut disk: Box<dyn Disk>,
    place: &Place,
    asked: &Receiver<Ask>,
    voice: &Voice,
) -> Result<Option<(Journal, Found)>, String> {
    while let Some(passphrase) = passphrase(asked) {
        match Journal::open(disk, Some(passphrase.text())) {
            Err(Error::WrongPassphrase) => voice.say(News::WrongPassphrase),
            Err(e) => return Err(chain(&e)),
            Ok(opened) => return Ok(Some(opened)),
        }
        disk = Box::new(place.open()?);
    }
    Ok(None)
}

/// The next passphrase; `None`: the session is not wanted any more.
fn passphrase(asked: &Receiver<Ask>) -> Option<Secret> {
    match asked.recv() {
        Ok(Ask::Unlock(passphrase)) => Some(passphrase),
        Ok(_) | Err(_) => None,
    }
}

/// Every conversation, of which that which was under way is read.
fn contents(journal: &Journal, found: &Found) -> Result<Opened, Error> {
    let mut opened = Opened {
        lines: journal.lines().map(str::to_owned).collect(),
        found: (!found.is_quiet()).then(|| found.to_string()),
        ..Opened::default()
    };
    let current = journal.current().map(|chat| chat.id);
    for (key, chat) in journal.chats().iter().enumerate() {
        let mut kept = kept(key, chat);
        if current == Some(chat.id) {
            opened.current = Some(key);
            kept.turns = Some(turns_of(&journal.messages(chat.id)?));
        }
        opened.chats.push(kept);
    }
    Ok(opened)
}

fn kept(key: Key, chat: &Chat) -> Kept {
    Kept {
        key,
        title: chat.title.clone(),
        words: chat.title().to_owned(),
        count: chat.turns(),
        turns: None,
        settings: Settings {
            system: chat.system.clone(),
            params: chat.parameters.clone(),
        },
        model: chat.model.clone().map(|model| (model.name, model.sha256)),
        tokens: chat.tokens,
        at: chat.changed,
    }
}

/// The journal, by the prompt's names for conversations.
struct Writer {
    journal: Journal,
    ids: BTreeMap<Key, ChatId>,
    /// Whose pieces are asked for.
    model: [u8; 32],
    current: Option<ChatId>,
}

impl Writer {
    fn serve(mut self, asked: &Receiver<Ask>, voice: &Voice) {
        let mut waiting: VecDeque<(u64, Op)> = VecDeque::new();
        let mut failing = false;
        let mut closing = false;
        while !(closing && (waiting.is_empty() || failing)) {
            let ask = match waiting.len() {
                0 => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
                // What is more stays in the channel, whose end the prompt sees.
                WAITING_MAX.. => {
                    std::thread::sleep(RETRY);
                    Err(RecvTimeoutError::Timeout)
                }
                _ => asked.recv_timeout(RETRY),
            };
            match ask {
                Ok(Ask::Keep(number, op)) => waiting.push_back((number, op)),
                Ok(Ask::Read(key)) => voice.say(News::Read(key, self.read(key))),
                Ok(Ask::Missing(keys, mib)) => {
                    self.journal.set_budget(u64::from(mib) << 20);
                    voice.say(News::Missing(self.missing(keys)));
                }
                Ok(Ask::Model(model)) => self.model = model,
                Ok(Ask::Store(piece)) => {
                    let name = self.name(&piece.key);
                    let stored = contexts::write(&mut self.journal, name, &piece);
                    voice.say(News::Stored(piece.key, stored));
                }
                Ok(Ask::Fetch(key)) => {
                    let bytes = contexts::read(&self.journal, &self.name(&key));
                    voice.say(News::Fetched(Piece { key, bytes }));
                }
                Ok(Ask::Context(chat, keys)) => self.set_context(chat, &keys),
                Ok(Ask::Close) | Err(RecvTimeoutError::Disconnected) => closing = true,
                Ok(Ask::Unlock(_)) | Err(RecvTimeoutError::Timeout) => {}
            }
            let mut saved = None;
            let mut failed = None;
            while let Some((number, op)) = waiting.front() {
                match self.write(op) {
                    Ok(()) => {}
                    // Another try would lead to the same: the rest goes on without it.
                    Err(e @ (Error::TooLong { .. } | Error::NoChat)) => {
                        voice.say(News::Failed(chain(&e)));
                    }
                    Err(e) => {
                        failed = Some(e);
                        break;
                    }
                }
                saved = Some(*number);
                waiting.pop_front();
            }
            if let Some(number) = saved {
                voice.say(News::Saved(number));
            }
            if let Some(e) = failed.filter(|_| !failing) {
                voice.say(News::Failed(chain(&e)));
                failing = true;
            }
            if failing && waiting.is_empty() && saved.is_some() {
                failing = false;
                voice.say(News::Resumed);
            }
        }
    }

    fn read(&self, key: Key) -> Result<Vec<Turn>, String> {
        let messages: Result<Vec<Message>, Error> =
            self.id(key).and_then(|id| self.journal.messages(id));
        messages.map(|m| turns_of(&m)).map_err(|e| chain(&e))
    }

    /// Which of these are not kept. The first says how the others are named: with any of
    /// them it is written again.
    fn missing(&self, keys: Vec<PieceKey>) -> Vec<PieceKey> {
        let index = keys.first().copied();
        let is_kept = |key: &PieceKey| self.journal.piece(&self.name(key)).is_some();
        let mut missing: Vec<_> = keys.into_iter().filter(|key| !is_kept(key)).collect();
        if !missing.is_empty() && missing.first() != index.as_ref() {
            missing.splice(0..0, index);
        }
        missing
    }

    /// What the model's piece is kept under. Its engine may say any key, but has no other
    /// model's pieces.
    fn name(&self, key: &PieceKey) -> journal::Key {
        let name = Sha256::new_with_prefix(self.model).chain_update(key.0);
        journal::Key(name.finalize().into())
    }

    fn set_context(&mut self, chat: Key, keys: &[PieceKey]) {
        let keys: Vec<_> = keys.iter().map(|key| self.name(key)).collect();
        if let Ok(id) = self.id(chat) {
            // Without it they are found by their names all the same, and go first when
            // room is needed.
            let _ = self.journal.set_context(id, &keys);
        }
    }

    fn id(&self, key: Key) -> Result<ChatId, Error> {
        self.ids.get(&key).copied().ok_or(Error::NoChat)
    }

    /// Writes one thing, and returns when it is on the disk.
    fn write(&mut self, op: &Op) -> Result<(), Error> {
        let journal = &mut self.journal;
        let id = |key: &Key| self.ids.get(key).copied().ok_or(Error::NoChat);
        match op {
            Op::Begin(key) => {
                let begun = journal.begin()?;
                self.ids.insert(*key, begun);
                self.current = Some(begun);
            }
            Op::Turn(key, turn, tokens) => {
                journal.turn(id(key)?, &turn.question, &turn.answer, *tokens)?;
            }
            Op::Answer(key, answer, tokens) => journal.answer(id(key)?, answer, *tokens)?,
            Op::TakeBack(key) => journal.take_back(id(key)?)?,
            Op::DropOldest(key) => journal.drop_oldest(id(key)?)?,
            Op::Clear(key) => journal.clear(id(key)?)?,
            Op::System(key, text) => journal.system(id(key)?, text)?,
            Op::Set(key, name, value) => journal.set(id(key)?, name, value.as_deref())?,
            Op::Model(key, name, sha256) => {
                let (name, sha256) = (name.clone(), sha256.clone());
                journal.model(id(key)?, &Model { name, sha256 })?;
            }
            Op::Rename(key, title) => journal.rename(id(key)?, Some(title))?,
            Op::Fork(key, from, turns) => {
                let begun = journal.fork(id(from)?, *turns)?;
                self.ids.insert(*key, begun);
                self.current = Some(begun);
            }
            Op::Switch(key) => {
                let to = id(key)?;
                journal.switch(to)?;
                self.current = Some(to);
            }
            Op::Delete(key) => {
                let deleted = id(key)?;
                journal.delete(deleted)?;
                self.ids.remove(key);
                self.current = self.current.filter(|&current| current != deleted);
            }
            Op::Line(text) => journal.line(self.current, text)?,
        }
        Ok(())
    }
}
