//! What a terminal sends: keys, pastes and noise, in pieces, with pauses, at a prompt
//! that is open or closed. The line keeps to its limit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use term::{Action, Completion, Limits, Look, Prompt, Size};

const LIMITS: Limits = Limits {
    paste_bytes: 300,
    text_bytes: 500,
    undo_bytes: 1000,
    kill_bytes: 300,
    history_bytes: 1000,
    waiting_bytes: 200,
};

fuzz_target!(|bytes: &[u8]| {
    let size = Size {
        columns: 20,
        rows: 5,
    };
    let mut prompt = Prompt::new(Some(size), Look::default(), LIMITS);
    let completer = |_: &str| Completion::default();
    prompt.open();
    let mut shown = Vec::new();
    for piece in bytes.chunks(11) {
        prompt.feed(piece);
        if piece.len() % 3 == 1 {
            prompt.flush();
        }
        while let Some(action) = prompt.next_action(&completer) {
            if let Action::Submit(_) = action {
                prompt.open();
            }
        }
        prompt.paint(&mut shown);
        shown.clear();
        assert!(prompt.text().len() <= LIMITS.text_bytes);
    }
    prompt.close(&mut shown);
});
