use serde_json::Value as Json;

use super::super::borrowed::{self, NOW_S, digest};
use super::*;

/// A JSON value as a template sees it.
fn value_of(budget: &Budget, json: &Json) -> Value {
    let made = match json {
        Json::Null => Ok(Value::None),
        Json::Bool(bool) => Ok(Value::Bool(*bool)),
        Json::Number(number) => Ok(number.as_i64().map_or_else(
            || Value::Float(number.as_f64().unwrap()),
            |int| Value::Int(int.into()),
        )),
        Json::String(text) => budget.text(text.as_str()),
        Json::Array(items) => {
            budget.list(items.iter().map(|item| value_of(budget, item)).collect())
        }
        Json::Object(entries) => {
            let entries = entries.iter();
            let pair = |(key, value): (&String, &Json)| {
                (budget.text(key.as_str()).unwrap(), value_of(budget, value))
            };
            budget.dict(entries.map(pair).collect())
        }
    };
    made.unwrap()
}

fn render(source: &str) -> Result<String, Failure> {
    // The same as in tests/expected.py.
    let context = serde_json::json!({
        "messages": [
            {"role": "user", "content": " Hi "},
            {"role": "assistant", "content": "it's"},
            {"role": "user", "content": "Bye"},
        ],
        "tools": null,
        "documents": null,
        "add_generation_prompt": true,
        "bos_token": "<s>",
    });
    render_with(source, &context)
}

fn render_with(source: &str, context: &Json) -> Result<String, Failure> {
    Program::new(source, Some(NOW_S))?.render(0, |budget| {
        let entries = context.as_object().unwrap().iter();
        let named = |(name, value)| (Text::literal(name), value_of(budget, value));
        Ok(entries
            .map(|(name, value)| named((name.as_str(), value)))
            .collect())
    })
}

#[test]
fn every_borrowed_template_renders_as_in_jinja2() {
    let mut wrong = Vec::new();
    for borrowed in borrowed::all() {
        let contexts = borrowed::contexts();
        let first = borrowed.digests.len() - contexts.len();
        for (context, expected) in contexts.iter().zip(&borrowed.digests[first..]) {
            let mut variables = context["variables"].clone();
            variables["bos_token"] = borrowed.bos().into();
            variables["eos_token"] = borrowed.eos().into();
            let rendered = render_with(&borrowed.source, &variables);
            let outcome = match &rendered {
                Ok(text) => format!("={text}"),
                Err(Failure {
                    fault: Fault::Raised(said),
                    ..
                }) => format!("!{said}"),
                Err(_) => "-".to_owned(),
            };
            if digest(&outcome) != *expected {
                wrong.push(format!(
                    "{}, {}: {rendered:?}",
                    borrowed.name, context["name"]
                ));
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

/// Where this knowingly differs from Python.
const DIFFERENT: &[&str] = &[
    // Names of characters need a table of them, as do entities, the values of
    // digits and what may go on a name.
    "{{ '\\N{BULLET}' }}",
    "{{ '&copy;'|striptags }}",
    "{{ '\\u0661'|int }}",
    "{{ 'a\\u0307'.isidentifier() }}",
    // Half a surrogate pair is not a character in Rust.
    "{{ '\\ud83d' is string }}",
    // Private use plane 16 stands for what the guard has taken out.
    "{{ ['\\U0010FFFD'] }}",
    // Integers of more than 127 bits, complex numbers and bytes are refused.
    "{{ 2 ** 127 }}",
    "{{ 1e300|int }}",
    "{{ (-8) ** 0.5 }}",
    "{{ 'a'.encode() }}",
    "{{ 5 .to_bytes(2) }}",
    "{{ 1.5.fromhex('0x1p3') }}",
    // A rendering must not depend on chance, nor on where a value lies.
    "{{ lipsum(0) }}",
    "{{ [] is sameas [] }}",
    // Objects of jinja2's own do not outlive their block.
    "{% block a %}x{% endblock %}{{ self.a() }}",
    "{% set ns = namespace() %}{% for x in [1, 2] %}{% set ns.l = loop %}{% endfor %}{{ ns.l.index }}",
    "{% for x in [1] %}{{ loop|length }}{% endfor %}",
    "{{ {'a': 1}.keys().isdisjoint([1]) }}",
];

/// Expressions and statements that would take for ever, more memory than there
/// is, or the whole stack; and what ends each.
#[expect(clippy::too_many_lines, reason = "a table")]
fn hostile() -> Vec<(String, &'static str)> {
    let doubled = |end: &str| {
        format!(
            "{{% set ns = namespace(a=[1]) %}}{{% for i in range(60) %}}{{% set ns.a = [ns.a, ns.a] %}}{{% endfor %}}{end}"
        )
    };
    let growing = |step: &str| {
        format!(
            "{{% set ns = namespace(s='xy') %}}{{% for i in range(99) %}}{{% set ns.s = {step} %}}{{% endfor %}}{{{{ ns.s }}}}"
        )
    };
    let many = |before: &str, each: &str, after: &str| {
        format!("{{{{ {before}{}{after} }}}}", each.repeat(100_000))
    };
    let nested = |end: &str| {
        format!(
            "{{% set ns = namespace(a=[]) %}}{{% for i in range(50000) %}}{{% set ns.a = [ns.a] %}}{{% endfor %}}{end}"
        )
    };
    let list = |source: &str| source.to_owned();
    let each_time = |step: &str| {
        format!(
            "{{% set w = 'a' * 4000000 %}}{{% for i in range(100000) %}}{{% set x = {step} %}}{{% endfor %}}"
        )
    };
    let parameters = |count: usize| {
        let names: Vec<String> = (0..count).map(|at| format!("p{at}")).collect();
        names.join(",")
    };
    let long_list = |step: &str| {
        format!(
            "{{% set l = [1] * 100000 %}}{{% for i in range(100000) %}}{{% for j in range(9) %}}{step}{{% endfor %}}{{% endfor %}}"
        )
    };
    let named = |n: usize| format!("a{n}=1,");
    let endless = "Endless";
    let memory = "Memory";
    let deep = "deep";
    // Long, and no burden.
    let done = "done";
    vec![
        (doubled("{{ ns.a == ns.a }}"), endless),
        (doubled("{{ ns.a|tojson }}"), memory),
        (doubled("{{ ns.a }}"), memory),
        (doubled("{{ ns.a|string|length }}"), memory),
        (doubled("{{ ns.a in [ns.a] }}"), endless),
        (doubled("{{ [ns.a, ns.a]|sort }}"), endless),
        (doubled("{{ '%s' % ns.a }}"), memory),
        (
            list("{% for i in range(100000) %}{% set x = range(100000)|list %}{% endfor %}"),
            endless,
        ),
        (
            list(
                "{% for i in range(100000) %}{% set x = range(20000)|sort|unique|map('string')|list %}{% endfor %}",
            ),
            endless,
        ),
        (
            list(
                "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
            ),
            memory,
        ),
        (
            list(
                "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [i] %}{% endfor %}",
            ),
            endless,
        ),
        (growing("ns.s + ns.s"), memory),
        (growing("ns.s ~ ns.s"), memory),
        (growing("ns.s|replace('x', ns.s)"), memory),
        (growing("ns.s.replace('x', ns.s)"), memory),
        (growing("[ns.s, ns.s]|join(ns.s)"), memory),
        (growing("ns.s.join([ns.s, ns.s])"), memory),
        (growing("(ns.s ~ '\\n' ~ ns.s)|indent(ns.s)"), memory),
        (growing("'%s%s' % (ns.s, ns.s)"), memory),
        (growing("'{0}{0}'.format(ns.s)"), memory),
        (growing("ns.s * 99"), memory),
        (growing("[ns.s, ns.s]|tojson"), memory),
        (growing("ns.s|list|string"), memory),
        (growing("ns.s|urlencode ~ ns.s|e"), memory),
        (growing("ns.s.split('x')|string ~ ns.s"), memory),
        (list("{{ '%999999999d'|format(1) }}"), memory),
        (
            list("{{ '%999999999s' % 1 }}{{ '%.999999999f' % 1 }}"),
            memory,
        ),
        (list("{{ '{:>999999999}'.format('a') }}"), memory),
        (list("{{ 'a'.center(999999999) }}"), memory),
        (list("{{ 'a'|center(999999999) }}"), memory),
        (list("{{ 'a'.ljust(999999999) }}"), memory),
        (list("{{ '1'.zfill(999999999) }}"), memory),
        (list("{{ '\\t'.expandtabs(999999999) }}"), memory),
        (list("{{ [1]|tojson(indent=999999999) }}"), memory),
        (list("{{ 'a\\nb'|indent(999999999) }}"), memory),
        (list("{{ [1]|batch(999999999, 1)|list }}"), memory),
        (list("{{ [1]|slice(999999999, 1)|list }}"), memory),
        (list("{{ [1] * 999999999 }}"), memory),
        (list("{{ 'x' * 10000000000 }}"), memory),
        (list("{{ strftime_now('%c' * 1000000) }}"), memory),
        (list("{{ ('a' * 1000000)|wordwrap(1) }}"), memory),
        (list("{{ ('a' * 300000)|wordwrap(1) }}"), done),
        (list("{{ ('a' ~ '-' * 300000)|wordwrap(9) }}"), done),
        (list("{{ ('&' * 300000)|striptags }}"), done),
        (list("{{ ('@' * 300000)|urlize }}"), done),
        (list("{% for i in 'x' * 9000000 %}{% endfor %}"), memory),
        (
            list("{{ ('b' * 2000000).strip('a' * 4000000 ~ 'b') }}"),
            done,
        ),
        (
            list("{{ ('b' * 2000000)|trim('a' * 4000000 ~ 'b') }}"),
            done,
        ),
        (each_time("''.find(w)"), endless),
        (each_time("''.count(w)"), endless),
        (each_time("''.replace(w, '')"), endless),
        (each_time("''|replace(w, '')"), endless),
        (each_time("''.split(w)"), endless),
        (each_time("''.rpartition(w)"), endless),
        (each_time("''.strip(w)"), endless),
        (each_time("w|int"), endless),
        (each_time("w|float"), endless),
        (list("{{ '' * 1000000000000000000 }}"), done),
        (
            list(
                "{% set w = 'a' * 2000000 %}{% set t = (w ~ 'b',) * 1000 %}{% for i in range(1000) %}{% set x = w.startswith(t) %}{% endfor %}",
            ),
            endless,
        ),
        (format!("{{{{ a|b{} }}}}", ".c".repeat(40_000)), "unknown"),
        (
            format!("{{% macro m({}) %}}{{% endmacro %}}", parameters(10_000)),
            done,
        ),
        (
            format!("{{% macro m({}) %}}{{% endmacro %}}", parameters(100_000)),
            memory,
        ),
        (format!("{{{{ [{}] }}}}", "1,".repeat(500_000)), memory),
        ("a{##}".repeat(200_000), memory),
        (format!("{{% set {}a = 1 %}}", "a,".repeat(500_000)), memory),
        (
            list("{{ ([1] * 9999)|sort(attribute='a,' * 999) }}"),
            memory,
        ),
        (list("{{ ([1] * 99999)|map(attribute='a')|list }}"), done),
        (
            format!(
                "{{% set l = [1] * 300000 %}}{{{{ {}{{}}{} }}}}",
                "dict(*l, **".repeat(40),
                ")".repeat(40)
            ),
            memory,
        ),
        (long_list("{% set x = l|select %}"), endless),
        (long_list("{% set x = l|reject %}"), endless),
        (long_list("{% set x = loop.cycle(*l) %}"), endless),
        (long_list("{% set x = l.count(1, 5, 5) %}"), endless),
        (
            long_list("{% for k in l %}{% set x = loop.length %}{% break %}{% endfor %}"),
            endless,
        ),
        (
            long_list("{% set x = ([[]] * 9999)|map('map', *l[:9999]) %}"),
            endless,
        ),
        (
            list(
                "{% set l = [''] * 50000 %}{% for i in range(100000) %}{% set x = l|join %}{% endfor %}",
            ),
            endless,
        ),
        (
            format!(
                "{{{{ ('{{z}}' * 1000000).format({}z='') }}}}",
                (0..10_000).map(named).collect::<Vec<_>>().concat()
            ),
            endless,
        ),
        (
            list("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
            deep,
        ),
        (
            list("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
            deep,
        ),
        (
            list("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}"),
            deep,
        ),
        (
            list(
                "{% set ns = namespace(c=1) %}{% for i in range(99999) %}{% set ns.c = cycler(ns.c) %}{% endfor %}",
            ),
            deep,
        ),
        (nested("{{ ns.a }}"), deep),
        (nested("{{ [ns.a, ns.a]|sort }}"), deep),
        (many("", "not ", "1"), deep),
        (many("", "-", "1"), deep),
        (many("", "+", "1"), deep),
        (many("'a'", "|upper", ""), deep),
        (many("a", ".b", ""), deep),
        (many("1", "+1", ""), deep),
        (many("1", " if 1 else 1", ""), deep),
        (many("1", " if 1", ""), deep),
        (many("1", "**1", ""), deep),
        (many("1", " and 1", ""), deep),
        (many("a", "()", ""), deep),
        (many("a", "[0]", ""), deep),
        (many("", "[", ""), deep),
        (many("", "(", ""), deep),
        (many("", "{1:", ""), deep),
        ("{% if 1 %}".repeat(100_000), deep),
        ("{% for a in b %}".repeat(100_000), deep),
        (format!("{{% set {} %}}", "(".repeat(100_000)), deep),
        (format!("{{{{ {}1 }}}}", "m(a=".repeat(100_000)), deep),
    ]
}

#[test]
fn whatever_a_template_spends_is_bounded() {
    let mut wrong = Vec::new();
    for (source, expected) in hostile() {
        let ended = match render(&source).map_err(|failure| failure.fault) {
            Err(Fault::Wrong(message)) if message.contains("deep") => "deep".to_owned(),
            Err(Fault::Wrong(message)) if message.contains("No filter") => "unknown".to_owned(),
            Err(Fault::Endless) => "Endless".to_owned(),
            Err(Fault::Memory) => "Memory".to_owned(),
            Ok(_) => "done".to_owned(),
            other => format!("{other:?}").chars().take(99).collect(),
        };
        if ended != expected {
            let source: String = source.chars().take(200).collect();
            wrong.push(format!("{ended}, not {expected}: {source}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_has_no_order_is_sorted_somehow_or_refused() {
    let nan = "{% set n = 'nan'|float %}";
    let mixed = "[n,7,14,0,7,n,0,7,14,0,n,14,0,7,14,n,7,14,0,7,n]";
    for sorted in [
        format!("{mixed}|sort"),
        format!("{mixed}|sort(reverse=true)"),
        format!("{{'a': {mixed}}}['a']|map('abs')|sort"),
    ] {
        let count = render(&format!("{nan}{{{{ ({sorted})|length }}}}"));
        assert_eq!(count.as_deref(), Ok("21"), "{sorted}");
    }
    let texts = render("{{ ([3, 'a', 1, 2] * 99)|sort }}");
    let fault = texts.unwrap_err().fault;
    assert!(
        matches!(&fault, Fault::Wrong(message) if message.contains("operand types for <")),
        "{fault:?}"
    );
}

/// What is counted is what is needed, or nearly.
#[test]
fn whatever_a_template_spends_is_little_memory() {
    let module = module_path!().split_once("::").unwrap().1;
    let test = format!("{module}::measure_what_templates_spend");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", &test])
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{out}");
}

#[test]
#[ignore = "measures its process; run by whatever_a_template_spends_is_little_memory"]
fn measure_what_templates_spend() {
    let peak_kib = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = peak_kib();
    for (source, _) in hostile() {
        let _ = render(&source);
        let grown = peak_kib() - before;
        let begin: String = source.chars().take(200).collect();
        assert!(grown < 64 << 10, "{grown} KiB at {begin}");
    }
}

#[test]
fn what_a_rendering_takes_it_gives_back() {
    let budget = Budget::new(1 << 20, 1 << 20);
    let all = budget.bytes_left();
    {
        let mut out = Buffer::new(&budget);
        let source = "{% for i in range(99) %}{% set x = [i, 'a' * i, {'k': i}] %}{{ x }}{% endfor %}\
                      {% macro m(a) %}{{ a }}{% endmacro %}{% set ns = namespace(m=m) %}{% set ns.n = ns %}";
        let program = Program::new(source, None).unwrap();
        let mut evaluator = Evaluator::new(&budget, Vec::new(), Clock::None).unwrap();
        evaluator.run(&program.statements, &mut out).unwrap();
        assert!(budget.bytes_left() < all);
    }
    assert_eq!(budget.bytes_left(), all);
}

#[test]
fn every_construct_renders_as_in_jinja2() {
    let table = include_str!("../../tests/expected.jsonl");
    let mut wrong = Vec::new();
    let mut constructs = 0;
    for line in table.lines() {
        let (source, expected): (String, Option<String>) = serde_json::from_str(line).unwrap();
        constructs += 1;
        let rendered = render(&source);
        let differs = rendered.as_ref().ok() != expected.as_ref();
        if differs != DIFFERENT.contains(&source.as_str()) {
            wrong.push(format!(
                "{source:?}\n  is      {rendered:?}\n  must be {expected:?}"
            ));
        }
    }
    assert!(
        constructs > 600,
        "the table has only {constructs} constructs"
    );
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
