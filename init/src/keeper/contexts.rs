//! What the engine has evaluated of a conversation, kept beside it: so that it goes on
//! another day as fast as a disk is read. Nothing of it is owed to the user: what cannot
//! be kept or read is evaluated again.

use std::time::{Duration, Instant};

use journal::{Error, Journal};
use protocol::{Piece, PieceInfo, PieceKey, TurnStats};

use super::{Keeper, Key, News};
use crate::host::read_budget;
use crate::peer::Peer;
use crate::session::{Evaluated, Session, Update};

/// What a disk gives and takes in a millisecond, if it is not a fast one.
const DISK_BYTES_A_MS: f64 = 200e3;
/// What evaluates in this time is not worth a byte.
const WORTH_MS: f64 = 100.0;

/// Whether reading `pieces` is sooner done than evaluating their tokens again, by what the
/// turn of `stats` took.
pub(crate) fn is_worth_keeping(pieces: &[PieceInfo], stats: &TurnStats) -> bool {
    // An engine may say anything.
    let sum = |sum: u64, more: u64| sum.saturating_add(more);
    let bytes = pieces.iter().map(|piece| piece.bytes).fold(0, sum);
    let tokens = pieces.iter().map(|piece| piece.tokens.into()).fold(0, sum);
    let evaluated = f64::from(stats.evaluated_tokens.max(1));
    #[expect(clippy::cast_precision_loss, reason = "a duration is estimated")]
    let (reading_ms, tokens) = (bytes as f64 / DISK_BYTES_A_MS, tokens as f64);
    tokens * stats.prefill_ms / evaluated > reading_ms + WORTH_MS
}

/// Keeps what is evaluated of the conversation `chat`, no longer than `patience`:
/// one piece after the other, so that no more than one is in memory.
pub(crate) fn keep<P: Peer>(
    session: &mut Session<P>,
    keeper: &mut Keeper,
    chat: Key,
    patience: Duration,
) {
    let began = Instant::now();
    let left = || patience.saturating_sub(began.elapsed());
    let mib = session.config().start.contexts_mib;
    let Some(stats) = session.last_stats().cloned() else {
        return;
    };
    if mib == 0 || !session.list_pieces() {
        return;
    }
    let list = next_evaluated(session, left(), |evaluated| match evaluated {
        Evaluated::Listed(list) => Some(list),
        _ => None,
    });
    let Some(list) = list.filter(|list| is_worth_keeping(list, &stats)) else {
        return;
    };
    let keys = list.iter().map(|piece| piece.key).collect();
    keeper.ask_missing(keys, mib);
    let missing = next_news(keeper, left(), |news| match news {
        News::Missing(missing) => Some(missing),
        _ => None,
    });
    for key in missing.into_iter().flatten() {
        session.give_piece(key);
        let piece = next_evaluated(session, left(), |evaluated| match evaluated {
            Evaluated::Given(piece) if piece.key == key => Some(piece),
            _ => None,
        });
        let Some(piece) = piece.filter(|piece| piece.bytes.is_some()) else {
            return;
        };
        keeper.store(piece);
        let stored = next_news(keeper, left(), |news| match news {
            News::Stored(of, stored) if of == key => Some(stored),
            _ => None,
        });
        if stored != Some(true) {
            break;
        }
    }
    keeper.set_context(chat, list.iter().map(|piece| piece.key).collect());
}

/// Reads a piece, no longer than `patience`.
pub(crate) fn fetch(keeper: &mut Keeper, key: PieceKey, patience: Duration) -> Piece {
    keeper.fetch(key);
    let piece = next_news(keeper, patience, |news| match news {
        News::Fetched(piece) if piece.key == key => Some(piece),
        _ => None,
    });
    piece.unwrap_or(Piece { key, bytes: None })
}

fn next_evaluated<P: Peer, T>(
    session: &mut Session<P>,
    patience: Duration,
    pick: impl Fn(Evaluated) -> Option<T>,
) -> Option<T> {
    let began = Instant::now();
    loop {
        let left = patience.saturating_sub(began.elapsed());
        match session.next_within(left)? {
            Update::Evaluated(Evaluated::Lost) => return None,
            Update::Evaluated(evaluated) => {
                if let Some(picked) = pick(evaluated) {
                    return Some(picked);
                }
            }
            _ => {}
        }
    }
}

fn next_news<T>(
    keeper: &mut Keeper,
    patience: Duration,
    pick: impl Fn(News) -> Option<T>,
) -> Option<T> {
    let began = Instant::now();
    loop {
        match keeper.next_news(patience.saturating_sub(began.elapsed()))? {
            News::Closed => return None,
            news => {
                if let Some(picked) = pick(news) {
                    return Some(picked);
                }
            }
        }
    }
}

/// The content of that piece; `None`: it is not there, has changed, or is longer than a
/// message to the engine may be.
pub(super) fn read(journal: &Journal, name: &journal::Key) -> Option<Vec<u8>> {
    let most = u64::from(read_budget().request_bytes);
    let piece = journal.piece(name).filter(|piece| piece.bytes <= most);
    let parts = piece.map_or(0, |piece| piece.parts);
    let read: Result<Vec<Vec<u8>>, Error> = (0..parts)
        .map(|part| journal.read_part(name, part))
        .collect();
    let parts = read.ok().filter(|parts| !parts.is_empty())?;
    Some(parts.concat())
}

/// Writes a piece under `name`. `false`: there is no room, or the disk takes nothing.
pub(super) fn write(journal: &mut Journal, name: journal::Key, piece: &Piece) -> bool {
    let Some(bytes) = &piece.bytes else {
        return false;
    };
    let Ok(mut writer) = journal.begin_piece(name, bytes.len() as u64) else {
        return false;
    };
    if journal.write_piece(&mut writer, bytes).is_err() {
        journal.abandon_piece(writer);
        return false;
    }
    journal.finish_piece(writer).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::Stop;

    #[test]
    fn only_what_is_slow_to_evaluate_is_kept() {
        let pieces = [PieceInfo {
            key: PieceKey([0; 32]),
            bytes: 400_000_000,
            tokens: 1000,
        }];
        let stats = |ms| TurnStats {
            stop: Stop::EndOfTurn,
            prompt_tokens: 100,
            evaluated_tokens: 100,
            prefill_ms: ms,
            generated_tokens: 1,
            decode_ms: 0.0,
            decode_calls: 1,
            guessed_tokens: 0,
            taken_tokens: 0,
            ctx_used_tokens: 1100,
            tokens: Vec::new(),
        };
        assert!(
            is_worth_keeping(&pieces, &stats(220.0)),
            "2200 ms against 2000"
        );
        assert!(!is_worth_keeping(&pieces, &stats(200.0)));
        assert!(!is_worth_keeping(&[], &stats(1e6)));
        let most = PieceInfo {
            bytes: u64::MAX,
            tokens: u32::MAX,
            ..pieces[0]
        };
        assert!(!is_worth_keeping(&[most, most], &stats(1e6)));
    }
}
