//! Keys and the editor: whatever a terminal sends, the line stays within its limits,
//! what is painted is text and sequences of ours, and what was only typed is in the line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use term::{Action, Completion, Limits, Look, Prompt, Size};

const LIMITS: Limits = Limits {
    paste_bytes: 1 << 10,
    text_bytes: 2 << 10,
    undo_bytes: 4 << 10,
    kill_bytes: 1 << 10,
    history_bytes: 4 << 10,
    waiting_bytes: 2 << 10,
};

fn complete(before: &str) -> Completion {
    let candidates = if before.starts_with('/') {
        vec!["/clear ".into(), "/exit ".into()]
    } else {
        vec![]
    };
    Completion {
        start: 0,
        candidates,
    }
}

/// What may reach a terminal: UTF-8 without control characters but those of sequences
/// and lines.
fn assert_painted(out: &[u8]) {
    let text = std::str::from_utf8(out).expect("what is painted is UTF-8");
    let steers = |c: char| c.is_control() && !"\r\n\x1b\x07\x08\t".contains(c);
    assert!(!text.contains(steers), "{text:?}");
    for sequence in text.split('\x1b').skip(1) {
        let ours = sequence.starts_with(['[', '7', '8', ']', '(', 'M', '=', '>']);
        assert!(ours, "{sequence:?} in {text:?}");
    }
}

// Pieces as they are read, each begun by its length; in between what else happens.
fuzz_target!(|bytes: &[u8]| {
    let size = Size {
        columns: 40,
        rows: 8,
    };
    let mut prompt = Prompt::new(Some(size), Look::default(), LIMITS);
    prompt.open();
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut typed = Some(String::new());
    while let Some((&head, behind)) = rest.split_first() {
        let (read, later) = behind.split_at(behind.len().min(usize::from(head & 0x3f)));
        rest = later;
        let plain = read.iter().all(|byte| (b' '..=b'~').contains(byte));
        match (typed.as_mut(), std::str::from_utf8(read)) {
            (Some(typed), Ok(read)) if plain && typed.len() + read.len() <= LIMITS.text_bytes => {
                typed.push_str(read)
            }
            _ => typed = None,
        }
        prompt.feed(read);
        match head >> 6 {
            0 => {}
            1 => prompt.flush(),
            2 => prompt.set_status(Some("status 漢字".into())),
            _ => prompt.set_size(
                Size {
                    columns: 16 + u16::from(head),
                    rows: 3,
                },
                &mut out,
            ),
        }
        while let Some(action) = prompt.next_action(&complete) {
            if let Action::Submit(sent) = action {
                assert!(
                    sent.text.len() <= LIMITS.text_bytes,
                    "{} bytes",
                    sent.text.len()
                );
                prompt.open();
            }
        }
        prompt.paint(&mut out);
        assert_painted(&out);
        out.clear();
        assert!(
            prompt.text().len() <= LIMITS.text_bytes,
            "{} bytes",
            prompt.text().len()
        );
    }
    if let Some(typed) = typed {
        assert_eq!(prompt.text(), typed);
    }
});
