//! Chat templates: a template from a stranger, and messages of another one. It ends,
//! within its bounds; and what the template of nobody writes is the messages, whole,
//! without a control token of theirs.

#![no_main]

use chat::{Mark, Message, Next, Role, Segment, Template, TemplateParams};
use libfuzzer_sys::fuzz_target;

const MARKS: [&str; 4] = ["<|im_start|>", "<|im_end|>", "</s>", "[INST]"];

fn template(source: Result<&str, &str>) -> Template {
    let mark = |text: &str| Mark {
        text: text.to_owned(),
        control: true,
        lstrip: false,
        rstrip: false,
    };
    let params = TemplateParams {
        source,
        bos: "<s>",
        eos: "</s>",
        marks: MARKS.map(mark).into(),
        now_s: Some(1_800_000_000),
    };
    Template::new(&params).expect("ChatML at least can be used")
}

fn controls(template: &Template, messages: &[Message]) -> usize {
    let rendered = template.render(messages, Next::Answer);
    let segments = rendered.expect("ChatML renders anything").segments();
    let controls = segments
        .iter()
        .filter(|segment| matches!(segment, Segment::Control(_)));
    controls.count()
}

// The template, and behind the first zero byte what is said.
fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (source, said) = text.split_once('\0').unwrap_or((&text, "Hello"));
    let ask = |said: &str| {
        [
            Message::new(Role::System, "Be brief."),
            Message::new(Role::User, said),
        ]
    };
    let of_stranger = template(Ok(source));
    for next in [Next::Answer, Next::Typing] {
        if let Ok(rendered) = of_stranger.render(&ask(said), next) {
            let _ = rendered.segments();
            let mut splitter = of_stranger.splitter(&rendered);
            let mut given = 0;
            splitter.push(said, &mut |_, piece| given += piece.len());
            splitter.finish(&mut |_, piece| given += piece.len());
            assert!(given <= said.len(), "{given} of {} bytes", said.len());
        }
    }
    let plain = template(Err("missing"));
    let rendered = plain
        .render(&ask(said), Next::Answer)
        .expect("ChatML renders anything");
    assert!(rendered.text().contains(said), "the message is not whole");
    assert_eq!(controls(&plain, &ask(said)), controls(&plain, &ask("x")));
});
