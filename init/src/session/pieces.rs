//! What the engine has evaluated of the conversation, given away and taken back. None of
//! it is owed to anybody: an engine that is replaced meanwhile begins again.

use protocol::{Piece, PieceInfo, PieceKey, Request, Role};

use crate::peer::Peer;

use super::{Session, State};

/// What the engine says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Evaluated {
    /// What [`Session::list_pieces`] asked for.
    Listed(Vec<PieceInfo>),
    /// What [`Session::give_piece`] asked for.
    Given(Piece),
    /// A recall goes on when it has this piece.
    Wanted(PieceKey),
    /// A recall has ended; so many tokens of the conversation are in the context.
    Recalled(u32),
    /// The engine that was asked for pieces is gone.
    Lost,
}

impl<P: Peer> Session<P> {
    /// Has the pieces of the conversation listed; `false` if no model is ready.
    pub(crate) fn list_pieces(&mut self) -> bool {
        let messages = self.transcript();
        self.ask_for(&Request::ListPieces { messages })
    }

    /// Has a piece given; `false` if no model is ready.
    pub(crate) fn give_piece(&mut self, key: PieceKey) -> bool {
        self.ask_for(&Request::GivePiece(key))
    }

    fn ask_for(&mut self, request: &Request) -> bool {
        let asked = self.mention(request);
        if let State::Ready(loaded) = &mut self.state {
            loaded.gives |= asked;
        }
        asked
    }

    /// Has the conversation taken back, if a model is ready, as far as there are pieces of
    /// it, each of which is asked for.
    pub(super) fn begin_recall(&mut self) {
        let mut messages = self.transcript();
        if self.is_open() {
            messages.pop();
        }
        let has_turns = messages
            .iter()
            .any(|message| message.role == Role::Assistant);
        if self.config.start.contexts_mib > 0 && has_turns {
            self.mention(&Request::Recall { messages });
        }
    }

    /// Hands over a piece that was asked for, or says that there is none.
    pub(crate) fn hand_piece(&mut self, piece: Piece) {
        let (State::Ready(loaded) | State::Answering { loaded, .. }) = &mut self.state else {
            return;
        };
        let key = piece.key;
        if loaded.peer.send(&Request::Piece(piece)).is_err() {
            let none = Piece { key, bytes: None };
            // It is never too long.
            let _ = loaded.peer.send(&Request::Piece(none));
        }
    }

    fn mention(&mut self, request: &Request) -> bool {
        match &mut self.state {
            State::Ready(loaded) => loaded.peer.send(request).is_ok(),
            _ => false,
        }
    }
}
