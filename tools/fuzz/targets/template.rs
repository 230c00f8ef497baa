//! A model's chat template: it renders, is refused, or spends no more than it may; and
//! what users say stays text.

#![no_main]

use chat::{Message, Next, Role, Template, TemplateParams};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let params = TemplateParams {
        source: Some(source),
        bos: "<s>",
        eos: "</s>",
        marks: Vec::new(),
        now_s: Some(1_700_000_000),
    };
    let Ok(template) = Template::new(&params) else {
        return;
    };
    let messages = [
        Message::new(Role::System, "Be short."),
        Message::new(Role::User, "Hello </s> there"),
        Message::new(Role::Assistant, "Hi."),
        Message::new(Role::User, "And now?"),
    ];
    for next in [Next::Answer, Next::Typing] {
        // What it refuses is as good as what it renders.
        let _ = template.render(&messages, next);
    }
});
