//! Models in several files.

use super::super::*;
use super::writer::{Writer, small_without_template};

/// The keys of part `number`, from 0, of `count`, of a model of `tensors`.
fn of(writer: Writer, number: u16, count: u16, tensors: i32) -> Writer {
    writer
        .key("split.no", 2, &number.to_le_bytes())
        .key("split.count", 2, &count.to_le_bytes())
        .key("split.tensors.count", 5, &tensors.to_le_bytes())
}

/// All keys and three tensors, then one tensor, then two: six.
fn parts() -> [Writer; 3] {
    [
        of(small_without_template(), 0, 3, 6),
        of(Writer::empty(), 1, 3, 6).tensor("blk.1.attn_q.weight", &[64, 2], 8, 136),
        of(Writer::empty(), 2, 3, 6)
            .tensor("blk.0.attn_k.weight", &[64, 2], 8, 136)
            .tensor("output.weight", &[256, 3], 12, 432),
    ]
}

fn check_files(files: &[Vec<u8>]) -> Result<Header, PartError> {
    let parts: Vec<(&[u8], u64)> = files.iter().map(|f| (&f[..], f.len() as u64)).collect();
    check_parts(&parts)
}

fn check_writers(parts: &[Writer]) -> Result<Header, PartError> {
    check_files(&parts.iter().map(Writer::file).collect::<Vec<_>>())
}

#[test]
fn all_parts_are_one_model() {
    let files = parts().map(|part| part.file());
    let header = check_files(&files).unwrap();
    assert_eq!(header.arch, "toy");
    assert_eq!(header.tensors.len(), 6);
    assert_eq!(header.weights, 768 + 128 + 7 + 128 + 128 + 768);
    let ends: Vec<u64> = header.ends.iter().map(|end| end.data_end).collect();
    let lengths: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
    assert_eq!(ends, lengths);
    assert_eq!(header.data_bytes().0, lengths.iter().sum::<u64>());
    let known = part_of(&files[1][..], lengths[1]).unwrap();
    let expected = Part {
        count: 3,
        tensors: 6,
        number: 2,
    };
    assert_eq!(known, Some(expected));
    let whole = small_without_template().file();
    assert_eq!(part_of(&whole[..], whole.len() as u64).unwrap(), None);
}

#[test]
fn the_first_part_may_have_keys_alone() {
    let keys = Writer {
        tensor_count: 0,
        tensors: Vec::new(),
        data_bytes: 0,
        ..small_without_template()
    };
    let [_, second, third] = parts();
    let three = [
        of(keys, 0, 3, 3),
        of(Writer::empty(), 1, 3, 3),
        third.clone(),
    ];
    assert!(check_writers(&three).is_err(), "the third says six");
    let third = of(Writer::empty(), 2, 3, 3)
        .tensor("blk.0.attn_k.weight", &[64, 2], 8, 136)
        .tensor("output.weight", &[256, 3], 12, 432);
    let [first, mut middle, _] = three;
    middle.tensors.clone_from(&second.tensors);
    (middle.tensor_count, middle.data_bytes) = (1, second.data_bytes);
    let header = check_writers(&[first, middle, third]).unwrap();
    assert_eq!(header.tensors.len(), 3);
}

#[test]
fn parts_that_are_not_of_one_model_are_refused_and_named() {
    let [first, second, third] = parts();
    let whole = small_without_template();
    let of_another = |number, tensors| {
        of(Writer::empty(), number, 3, tensors).tensor("blk.1.attn_q.weight", &[64, 2], 8, 136)
    };
    let twice = of(Writer::empty(), 1, 3, 6).tensor("output_norm.weight", &[7], 0, 28);
    let named = second.clone().text("general.architecture", "other");
    let table: [(&[&Writer], usize, &str); 13] = [
        (&[&first], 0, "part 1 of a model in 3 parts"),
        (
            &[&second],
            0,
            "part 2 of a model in 3 parts, all of which are needed: give the first",
        ),
        (&[&first, &second], 0, "part 1 of 2 and is part 1 of 3"),
        (
            &[&second, &first, &third],
            0,
            "part 1 of 3 and is part 2 of 3",
        ),
        (
            &[&first, &first, &third],
            1,
            "part 2 of 3 and is part 1 of 3",
        ),
        (
            &[&first, &third, &second],
            1,
            "part 2 of 3 and is part 3 of 3",
        ),
        (
            &[&first, &second, &whole],
            2,
            "part 3 of 3 and is a whole model",
        ),
        (
            &[&whole, &second, &third],
            0,
            "part 1 of 3 and is a whole model",
        ),
        (
            &[&first, &of_another(1, 7), &third],
            1,
            "of a model of 7 tensors",
        ),
        (
            &[&first, &twice, &third],
            1,
            "\"output_norm.weight\" is wrong: an earlier part has it",
        ),
        (
            &[&first, &named, &third],
            1,
            "it is another than in the first part",
        ),
        (
            &[&first, &second, &of_another(2, 6)],
            2,
            "\"blk.1.attn_q.weight\" is wrong",
        ),
        (&[], 0, "no file"),
    ];
    for (writers, index, expected) in table {
        let writers: Vec<Writer> = writers.iter().map(|&writer| writer.clone()).collect();
        let error = check_writers(&writers).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(expected), "{said}");
        assert_eq!(error.index, index, "{said}");
        assert!(!said.contains('\n') && said.ends_with(']'), "{said}");
    }
}

#[test]
fn a_part_that_is_cut_is_named_and_missing_tensors_are_counted() {
    let mut files = parts().map(|part| part.file());
    files[1].pop();
    let error = check_files(&files).unwrap_err();
    assert_eq!(error.index, 1);
    assert!(error.to_string().contains("the file is cut"), "{error}");

    let [first, second, _] = parts();
    let third = of(Writer::empty(), 2, 3, 6).tensor("output.weight", &[256, 3], 12, 432);
    let error = check_writers(&[first, second, third]).unwrap_err();
    assert!(
        error.to_string().contains("5 tensors together, and not 6"),
        "{error}"
    );
}

#[test]
fn numbers_that_llama_cpp_would_abort_at_are_refused() {
    let file = |no: (u32, &[u8]), count: (u32, &[u8]), tensors: (u32, &[u8])| {
        let writer = small_without_template()
            .key("split.no", no.0, no.1)
            .key("split.count", count.0, count.1)
            .key("split.tensors.count", tensors.0, tensors.1);
        check_writers(&[writer]).unwrap_err().to_string()
    };
    let (no, count, tensors) = ((2, &[0, 0][..]), (2, &[3, 0][..]), (5, &[6, 0, 0, 0][..]));
    let wrong = |key: &str| format!("key \"{key}\" is wrong");
    assert!(file(no, count, tensors).contains("part 1 of a model in 3"));
    for bad in [(4, &[0; 4][..]), (2, &[3, 0]), (8, &[0; 8])] {
        assert!(file(bad, count, tensors).contains(&wrong("split.no")));
    }
    for bad in [(4, &[3, 0, 0, 0][..]), (2, &[1, 1]), (7, &[1])] {
        assert!(file(no, bad, tensors).contains(&wrong("split.count")));
    }
    for bad in [(4, &[6, 0, 0, 0][..]), (5, &[0xff; 4]), (5, &[0, 0, 1, 0])] {
        assert!(file(no, count, bad).contains(&wrong("split.tensors.count")));
    }
}

#[test]
fn parts_are_told_by_their_names() {
    let part = |stem, number, count| {
        Some(PartName {
            stem,
            number,
            count,
        })
    };
    let table = [
        ("Big-00001-of-00003", part("Big", 1, 3)),
        ("Big-x-00012-of-00013", part("Big-x", 12, 13)),
        ("Big-1-of-3", None),
        ("Big-+0001-of-00003", None),
        ("Big-00000-of-00003", None),
        ("Big-00004-of-00003", None),
        ("Best-of-00003", None),
        ("Whole-00001-of-00001", None),
        ("model", None),
    ];
    for (name, expected) in table {
        assert_eq!(PartName::of(name), expected, "{name}");
    }
    let name = PartName::of("Big-00001-of-00003").unwrap();
    assert_eq!(name.with_number(2), "Big-00002-of-00003");
}
