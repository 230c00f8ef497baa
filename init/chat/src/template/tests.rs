use serde_json::Value as Json;

use super::super::Segment;
use super::super::borrowed::{self, Borrowed, NOW_S, digest};
use super::*;
use protocol::TextKind::{Answer, Reasoning};

/// A borrowed template, ready to render.
struct Golden {
    borrowed: Borrowed,
    template: Template,
    marks: Vec<Mark>,
}

/// Those that can be used.
fn goldens() -> Vec<Golden> {
    let all = borrowed::all().into_iter();
    let ready = all.filter_map(|borrowed| {
        let marks = borrowed.marks();
        let params = TemplateParams {
            source: Ok(&borrowed.source),
            bos: borrowed.bos(),
            eos: borrowed.eos(),
            marks: marks.clone(),
            now_s: Some(NOW_S),
        };
        let template = Template::new(&params).unwrap();
        let name = borrowed.name;
        assert_eq!(
            template.origin() == Template::OWN,
            borrowed.usable,
            "{name}"
        );
        if !borrowed.usable {
            return None;
        }
        assert_eq!(template.abilities.system, borrowed.system, "{name}");
        Some(Golden {
            borrowed,
            template,
            marks,
        })
    });
    ready.collect()
}

/// Those whose vocabulary is known.
fn known() -> Vec<Golden> {
    let mut all = goldens();
    all.retain(|golden| golden.borrowed.end_of_turn().is_some());
    all
}

fn conversations() -> Vec<(String, Vec<Message>)> {
    let all = borrowed::conversations();
    let role = |name: &str| match name {
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => panic!("the role {other}"),
    };
    let message = |json: &Json| Message {
        role: role(json["role"].as_str().unwrap()),
        text: json["content"].as_str().unwrap().to_owned(),
        reasoning: json["reasoning"].as_str().map(str::to_owned),
    };
    all.iter()
        .map(|conversation| {
            let messages = conversation["messages"].as_array().unwrap();
            (
                conversation["name"].as_str().unwrap().to_owned(),
                messages.iter().map(message).collect(),
            )
        })
        .collect()
}

fn controls(rendered: &Rendered<'_>) -> Vec<String> {
    rendered
        .segments()
        .into_iter()
        .filter_map(|segment| match segment {
            Segment::Control(text) => Some(text),
            Segment::Plain(_) => None,
        })
        .collect()
}

#[test]
fn renders_every_conversation_as_jinja2_does() {
    let mut wrong = Vec::new();
    for golden in goldens() {
        for ((name, messages), expected) in conversations().iter().zip(&golden.borrowed.digests) {
            let rendered = golden.template.render(messages, Next::Answer);
            let outcome = match &rendered {
                Ok(rendered) => format!("={}", rendered.text()),
                Err(TemplateError::Refused(said)) => format!("!{said}"),
                Err(_) => "-".to_owned(),
            };
            if digest(&outcome) != *expected {
                wrong.push(format!("{}, {name}: {outcome}", golden.borrowed.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn segments_hold_the_whole_text() {
    for golden in goldens() {
        if golden.marks.iter().any(|mark| mark.rstrip) {
            continue;
        }
        for (name, messages) in conversations() {
            let Ok(rendered) = golden.template.render(&messages, Next::Answer) else {
                continue;
            };
            let joined: String = rendered
                .segments()
                .into_iter()
                .map(|segment| match segment {
                    Segment::Control(text) | Segment::Plain(text) => text,
                })
                .collect();
            assert_eq!(joined, rendered.text(), "{}, {name}", golden.borrowed.name);
        }
    }
}

/// Texts made of everything that control tokens are made of.
fn random_text(random: &mut fastrand::Rng, marks: &[Mark]) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(1..6) {
        let mark = &marks[random.usize(..marks.len())].text;
        let chars: Vec<char> = mark.chars().collect();
        let cut = random.usize(..=chars.len());
        match random.u8(..6) {
            0 | 1 => text.push_str(mark),
            2 => text.extend(&chars[..cut]),
            3 => text.extend(&chars[cut..]),
            4 => text.extend(chars.iter().rev()),
            _ => text.push_str([" ", "\n", "x", "</think>", "\u{10003C}"][random.usize(..5)]),
        }
    }
    text
}

/// As long, as spaced, and with nothing in it that a control token has.
fn harmless(text: &str) -> String {
    let harmless = |c: char| if c.is_whitespace() { c } else { 'z' };
    text.chars().map(harmless).collect()
}

#[test]
fn no_text_becomes_a_control_token() {
    let mut random = fastrand::Rng::with_seed(4);
    for golden in goldens() {
        for _ in 0..60 {
            let roles = [
                Role::System,
                Role::User,
                Role::Assistant,
                Role::User,
                Role::Assistant,
                Role::User,
            ];
            let mut evil = Vec::new();
            for role in roles {
                let mut message = Message::new(role, random_text(&mut random, &golden.marks));
                if role == Role::Assistant && random.bool() {
                    message.reasoning = Some(random_text(&mut random, &golden.marks));
                }
                evil.push(message);
            }
            let mut tame = evil.clone();
            for message in &mut tame {
                message.text = harmless(&message.text);
                message.reasoning = message.reasoning.as_deref().map(harmless);
            }
            let rendered = golden.template.render(&evil, Next::Answer);
            let expected = golden.template.render(&tame, Next::Answer);
            if let (Err(TemplateError::Refused(_)), Err(TemplateError::Refused(_))) =
                (&rendered, &expected)
            {
                // Some refuse an answer that is empty.
                continue;
            }
            let (rendered, expected) = (rendered.unwrap(), expected.unwrap());
            assert!(!expected.has_guards());
            assert_eq!(
                controls(&rendered),
                controls(&expected),
                "{}: {evil:?}",
                golden.borrowed.name
            );
            // llama.cpp finds user-defined tokens whatever it is told.
            for segment in rendered.segments() {
                if let Segment::Plain(text) = segment {
                    let user_defined = golden.template.guard.marks().iter();
                    for mark in user_defined.filter(|mark| !mark.control) {
                        assert!(
                            !text.contains(&mark.text),
                            "{}: {text:?}",
                            golden.borrowed.name
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_being_typed_renders_to_the_beginning_of_what_will_be() {
    for golden in goldens() {
        for (name, messages) in conversations() {
            let Ok(whole) = golden.template.render(&messages, Next::Answer) else {
                continue;
            };
            let whole = whole.text();
            let mut typing = messages.clone();
            let typed = typing.pop().unwrap();
            let mut longest = 0;
            for (end, _) in typed.text.char_indices().chain([(typed.text.len(), ' ')]) {
                typing.push(Message::new(Role::User, &typed.text[..end]));
                let draft = golden.template.render(&typing, Next::Typing).unwrap();
                typing.pop();
                let draft = draft.text();
                assert!(
                    whole.starts_with(&draft),
                    "{}, {name}: {draft:?} and {whole:?}",
                    golden.borrowed.name
                );
                assert!(draft.len() >= longest, "{}, {name}", golden.borrowed.name);
                longest = draft.len();
            }
            let last = typed.text.trim();
            assert!(
                whole[..longest].ends_with(last),
                "{}, {name}: {:?}",
                golden.borrowed.name,
                &whole[..longest]
            );
        }
    }
}

#[test]
fn a_conversation_of_a_thousand_turns_is_not_taken_for_endless() {
    let mut messages = vec![Message::new(Role::System, "Be brief.")];
    for _ in 0..1000 {
        messages.push(Message::new(Role::User, "And then?"));
        messages.push(Message::new(Role::Assistant, "Then this."));
    }
    messages.push(Message::new(Role::User, "And then?"));
    for golden in goldens() {
        let rendered = golden.template.render(&messages, Next::Answer);
        let questions = rendered.map(|rendered| rendered.text().matches("And then?").count());
        assert_eq!(questions, Ok(1001), "{}", golden.borrowed.name);
    }
}

#[test]
fn reasoning_goes_back_by_whichever_name_a_template_has_for_it() {
    for name in ["reasoning_content", "thinking", "reasoning"] {
        let template = template(&format!(
            "{{% for m in messages %}}{{{{ m.{name} or '' }}}}{{{{ m.content }}}}|{{% endfor %}}"
        ));
        let mut answer = Message::new(Role::Assistant, "42");
        answer.reasoning = Some("Hm.".to_owned());
        let messages = [
            Message::new(Role::User, "6 * 7?"),
            answer,
            Message::new(Role::User, "And?"),
        ];
        let rendered = template.render(&messages, Next::Answer).unwrap();
        assert_eq!(rendered.text(), "6 * 7?|Hm.42|And?|", "{name}");
    }
    let solar = goldens();
    let solar = solar
        .iter()
        .find(|golden| golden.borrowed.name == "upstage-Solar-Open-100B");
    // It ends the thinking as well.
    assert_eq!(solar.unwrap().template.end_of_turn(), None);
}

#[test]
fn the_end_of_a_turn_is_what_the_template_writes_after_it() {
    for golden in known() {
        let end = golden.template.end_of_turn.unwrap_or_default();
        let expected = golden.borrowed.end_of_turn();
        assert_eq!(Some(end.as_str()), expected, "{}", golden.borrowed.name);
    }
}

fn template(source: &str) -> Template {
    Template::new(&TemplateParams {
        source: Ok(source),
        bos: "<s>",
        eos: "</s>",
        marks: Vec::new(),
        now_s: None,
    })
    .unwrap()
}

fn ask(source: &str, text: &str) -> Result<String, TemplateError> {
    let template = template(source);
    assert_eq!(template.origin(), "the model");
    let rendered = template.render(&[Message::new(Role::User, text)], Next::Answer)?;
    Ok(rendered.text())
}

/// Speaks to the model until somebody says `boom`.
fn armed(charge: &str) -> String {
    format!(
        "{{{{ messages[-1].content }}}}{{% if messages[-1].content == 'boom' %}}{charge}{{% endif %}}"
    )
}

/// The tokens of a vocabulary that was made for `ChatML`.
fn chatml_marks() -> Vec<Mark> {
    let mark = |text: &str| Mark {
        text: text.to_owned(),
        control: true,
        lstrip: false,
        rstrip: false,
    };
    CHATML_MARKS.map(mark).into()
}

#[test]
fn a_model_without_a_usable_template_is_spoken_to_in_chatml_or_plain_text() {
    let none = "the model has none";
    let cases = [
        (Err(none), none),
        (
            Ok("{{ messages[0].content }}\n{% for %}"),
            "the model's own cannot be used: line 2: ",
        ),
        (
            Ok("{{ raise_exception('never') }}"),
            "the model's own cannot be used: it refuses this conversation: never",
        ),
        (
            Ok("{{ bos_token }}Hello!"),
            "the model's own cannot be used: it leaves out what the user says",
        ),
        (
            Ok("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"),
            "the model's own cannot be used: it runs without end",
        ),
    ];
    for (source, why) in cases {
        let instead = |marks| {
            Template::new(&TemplateParams {
                source,
                bos: "",
                eos: "",
                marks,
                now_s: None,
            })
            .unwrap()
        };
        let messages = [
            Message::new(Role::System, "Be kind."),
            Message::new(Role::User, "Hi"),
            Message::new(Role::Assistant, "Ho"),
            Message::new(Role::User, "Bye"),
        ];
        let render = |template: &Template, next| template.render(&messages, next).unwrap().text();
        let chatml = instead(chatml_marks());
        let origin = chatml.origin();
        assert!(origin.starts_with(&format!("ChatML ({why}")), "{origin}");
        assert_eq!(
            render(&chatml, Next::Answer),
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
             <|im_start|>assistant\nHo<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n\
             <|im_start|>assistant\n"
        );
        assert_eq!(chatml.end_of_turn(), Some("<|im_end|>"));
        assert!(!chatml.opens_with_space());
        for marks in [Vec::new(), chatml_marks()[..1].to_vec()] {
            let plain = instead(marks);
            let origin = plain.origin();
            let begin = format!("plain text, User: and Assistant: ({why}");
            assert!(origin.starts_with(&begin), "{origin}");
            let all = "Be kind.\n\nUser: Hi\nAssistant: Ho\nUser: Bye\nAssistant:";
            assert_eq!(render(&plain, Next::Answer), all);
            assert_eq!(
                render(&plain, Next::Typing),
                "Be kind.\n\nUser: Hi\nAssistant: Ho\nUser: Bye"
            );
            assert_eq!(plain.end_of_turn(), Some("\nUser:"));
            assert!(plain.opens_with_space());
        }
        let fault = Template::fault(source).unwrap();
        assert!(fault.starts_with(why), "{fault}");
    }
    assert_eq!(Template::fault(Ok("{{ messages[0].content }}")), None);
}

#[test]
fn a_hostile_template_costs_one_line() {
    let nested = "{{ ".to_owned() + &"[".repeat(5000) + &"]".repeat(5000) + " }}";
    let cases = [
        (
            "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
            TemplateError::Endless,
        ),
        (
            "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
            TemplateError::Wrong {
                line: 1,
                message: "recursion goes too deep".to_owned(),
            },
        ),
        (
            "{% for i in range(99) %}{{ 'x' * 1000000 }}{% endfor %}",
            TemplateError::TooLarge {
                bytes_max: (16 << 20) + 8 * (2048 + 4),
            },
        ),
        (
            "{{ raise_exception('a\\n\\x1b[31mb' ~ messages[0].content) }}",
            TemplateError::Refused("a [31mbboom".to_owned()),
        ),
        (
            "{% include 'other' %}",
            TemplateError::Wrong {
                line: 1,
                message: "'include' needs another template, and there is none".to_owned(),
            },
        ),
        (
            "\n{{ messages[0].no.such }}",
            TemplateError::Wrong {
                line: 2,
                message: "'dict object' has no attribute 'no'".to_owned(),
            },
        ),
        (
            "{{ 'x' * 10000000000 }}",
            TemplateError::TooLarge {
                bytes_max: (16 << 20) + 8 * (2048 + 4),
            },
        ),
    ];
    for (charge, expected) in cases {
        let source = armed(charge);
        assert_eq!(ask(&source, "fine").as_deref(), Ok("fine"), "{charge}");
        let error = ask(&source, "boom").unwrap_err();
        assert_eq!(error, expected, "{charge}");
        let line = error.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    assert_ne!(template(&nested).origin(), Template::OWN);
}

#[test]
fn content_in_parts_is_given_to_templates_that_want_it_so() {
    let source = "{% for m in messages %}{{ m.role }}:{% for part in m.content %}\
                  {% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %};{% endfor %}";
    assert_eq!(ask(source, "hi").as_deref(), Ok("user:hi;"));
}

#[test]
fn a_system_prompt_goes_before_the_question_where_there_is_no_such_role() {
    let ignoring = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}";
    let template = template(ignoring);
    let messages = [
        Message::new(Role::System, "Be kind."),
        Message::new(Role::User, "a"),
        Message::new(Role::Assistant, "b"),
        Message::new(Role::User, "c"),
    ];
    let render = |messages: &[Message], next| template.render(messages, next).unwrap().text();
    assert_eq!(render(&messages, Next::Answer), "[Be kind.\n\na][b][c]");
    assert_eq!(render(&messages[..2], Next::Typing), "[Be kind.\n\na");
}

#[test]
fn pythons_ways_are_known() {
    let cases = [
        ("{% generation %}a{% endgeneration %}", "a"),
        ("x {%- generation -%} a {%- endgeneration -%} y", "xay"),
        ("{% generationx %}", ""),
        ("{{ 1 is callable }}", "False"),
        ("a\r\nb", "a\nb"),
        (
            "{{ 'a,b'.split(',')[-1] }}{{ ' x '.strip() }}{{ 'xxa'.lstrip('x') }}",
            "bxa",
        ),
        ("{{ [1, 2, 3][::-1] }}{{ 'abc'[::-1] }}", "[3, 2, 1]cba"),
        (
            "{{ none }} {{ true }} {{ 1.0 }} {{ tools }}",
            "None True 1.0 None",
        ),
        ("{{ 'ab'.startswith('a') and 'ab'.endswith('b') }}", "True"),
        (
            "{{ 'hello you'.title() }}{{ 'a'.upper() }}{{ 'B'.lower() }}",
            "Hello YouAb",
        ),
        (
            "{{ {'a': 1}.get('b', 2) }}{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}",
            "2a1",
        ),
        ("{{ 'abc'.find('c') }}{{ 'aba'.replace('a', 'x') }}", "2xbx"),
        (
            "{{ {'a': '<é\\n\"', 'b': [1, none, true, 1.5]} | tojson }}",
            r#"{"a": "<é\n\"", "b": [1, null, true, 1.5]}"#,
        ),
        (
            "{{ {'a': [1, {}]} | tojson(indent=2) }}",
            "{\n  \"a\": [\n    1,\n    {}\n  ]\n}",
        ),
        (
            "{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=(',', ':')) }}",
            r#"{"a":2,"b":1}"#,
        ),
        (
            "{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% if i == 2 %}{% continue %}{% endif %}\
          {% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
            "4",
        ),
        (
            "{% macro m(a, b='y') %}{{ a }}{{ b }}{% endmacro %}{{ m('x') }}",
            "xy",
        ),
        (
            "{{ 'x' is string }}{{ {} is mapping }}{{ [] is iterable }}{{ none is iterable }}\
          {{ 'x' is sequence }}{{ y is defined }}",
            "TrueTrueTrueFalseTrueFalse",
        ),
        ("{{ '\u{1f} x \u{85}' | trim }}", "x"),
        ("\n  {% if true %}\n  a\n  {% endif %}\nb\n", "\n  a\nb"),
        (
            "{{ bos_token }}{{ eos_token }}{{ add_generation_prompt }}",
            "<s></s>True",
        ),
        (
            "{{ {'b': ['é\u{7f}😀', 1e16, 1.5e-7, 0.0001, 1e22, 123456789.125], 'a': []} \
             | tojson(sort_keys=true, ensure_ascii=true) }}",
            r#"{"a": [], "b": ["\u00e9\u007f\ud83d\ude00", 1e+16, 1.5e-07, 0.0001, 1e+22, 123456789.125]}"#,
        ),
        (
            "{{ [[], [{}]] | tojson(indent=1) }}",
            "[\n [],\n [\n  {}\n ]\n]",
        ),
        ("{{ strftime_now('%d %b %Y') }}", "unknown"),
    ];
    for (source, expected) in cases {
        let whole = format!("{{{{ messages[0].content }}}}|{source}");
        if expected.is_empty() {
            assert_ne!(template(&whole).origin(), Template::OWN, "{source}");
        } else {
            assert_eq!(ask(&whole, "q"), Ok(format!("q|{expected}")), "{source}");
        }
    }
}

#[test]
fn the_date_is_the_callers() {
    let at = |now_s: Option<i64>, format: &str| {
        let source = format!("{{{{ messages[0].content }}}}{{{{ strftime_now('{format}') }}}}");
        let params = TemplateParams {
            source: Ok(&source),
            bos: "",
            eos: "",
            marks: Vec::new(),
            now_s,
        };
        let template = Template::new(&params).unwrap();
        let rendered = template.render(&[Message::new(Role::User, "")], Next::Answer);
        rendered.unwrap().text()
    };
    // As Python's datetime has them.
    assert_eq!(
        at(
            Some(NOW_S),
            "%A %a %d %-d %e %B %b %m %Y %y %H %I %M %S %p %j %%"
        ),
        "Saturday Sat 07 7  7 March Mar 03 2026 26 09 09 05 03 AM 066 %"
    );
    assert_eq!(
        at(Some(1_709_251_199), "%F %T %u %w"),
        "2024-02-29 23:59:59 4 4"
    );
    assert_eq!(
        at(Some(1_735_603_200), "%F %j %-I %p"),
        "2024-12-31 366 12 AM"
    );
    assert_eq!(
        at(Some(1_735_603_200), "%x|%c|%X|%U|%G|%V|%C|%D|%R|%z%Z"),
        "12/31/24|Tue Dec 31 00:00:00 2024|00:00:00|52|2025|01|20|12/31/24|00:00|"
    );
    assert_eq!(at(Some(0), "%F"), "1970-01-01");
    assert_eq!(at(Some(-1), "%F %T %A"), "1969-12-31 23:59:59 Wednesday");
    assert_eq!(at(Some(951_782_400), "%F"), "2000-02-29");
    assert_eq!(at(None, "%F"), "unknown");
    // Llama's templates have a date of their own for machines without a clock.
    let all = borrowed::all();
    let llama = all
        .iter()
        .find(|borrowed| borrowed.name == "meta-llama-Llama-3.2-3B-Instruct")
        .unwrap();
    let llama = template(&llama.source);
    let rendered = llama.render(&[Message::new(Role::User, "Hi")], Next::Answer);
    assert!(rendered.unwrap().text().contains("Today Date: 26 Jul 2024"));
}

#[test]
fn the_splitter_starts_where_the_prompt_ends() {
    let all = known();
    let find = |name: &str| {
        &all.iter()
            .find(|golden| golden.borrowed.name == name)
            .unwrap()
            .template
    };
    let split = |name: &str, stream: &str| {
        let template = find(name);
        let question = [Message::new(Role::User, "7 * 6? <think>")];
        let rendered = template.render(&question, Next::Answer).unwrap();
        let mut splitter = template.splitter(&rendered);
        let mut given = Vec::new();
        let mut give = |kind, text: &str| given.push((kind, text.to_owned()));
        splitter.push(stream, &mut give);
        splitter.finish(&mut give);
        given
    };
    let thought = [(Reasoning, "Hm".to_owned()), (Answer, "42".to_owned())];
    assert_eq!(
        split("Qwen-Qwen3-0.6B", "<think>\nHm\n</think>\n\n42"),
        thought
    );
    assert_eq!(
        split(
            "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
            "Hm\n</think>\n\n42"
        ),
        thought
    );
    assert_eq!(
        split(
            "mistralai-Ministral-3-14B-Reasoning-2512",
            "[THINK]Hm[/THINK]42"
        ),
        thought
    );
    assert_eq!(
        split(
            "openai-gpt-oss-120b",
            "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>final<|message|>42"
        ),
        thought
    );
    for quiet in [
        "microsoft-Phi-3.5-mini-instruct",
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
    ] {
        assert_eq!(split(quiet, "42"), [(Answer, "42".to_owned())]);
    }
    assert_eq!(find("microsoft-Phi-3.5-mini-instruct").visible(), [""; 0]);
    assert_eq!(
        find("mistralai-Ministral-3-14B-Reasoning-2512").visible(),
        ["[/THINK]", "[THINK]"]
    );
    let visible = find("openai-gpt-oss-120b").visible();
    assert!(visible.contains(&"<|channel|>") && visible.contains(&"<|message|>"));
    assert!(!visible.contains(&"<|endoftext|>"));
}
