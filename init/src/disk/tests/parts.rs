//! Models in several parts, on disks and in file systems.

use super::*;

/// A disk that begins with the keys of part `number`, from 1, of `count`.
fn part(number: u16, count: u16, tensors: i32) -> Vec<u8> {
    let key = |name: &str, kind: u32, value: &[u8]| {
        let length = (name.len() as u64).to_le_bytes();
        [&length[..], name.as_bytes(), &kind.to_le_bytes(), value].concat()
    };
    let head = [
        b"GGUF".to_vec(),
        3_u32.to_le_bytes().to_vec(),
        0_u64.to_le_bytes().to_vec(),
        3_u64.to_le_bytes().to_vec(),
        key("split.no", 2, &(number - 1).to_le_bytes()),
        key("split.count", 2, &count.to_le_bytes()),
        key("split.tensors.count", 5, &tensors.to_le_bytes()),
    ];
    with(4096, 0, &head.concat())
}

/// The paths of each model's files below `/dev`.
fn files(machine: &Machine, found: &Found) -> Vec<Vec<String>> {
    let below = |path: &Path| {
        let path = path.strip_prefix(machine.path("dev")).unwrap();
        path.display().to_string()
    };
    let of = |model: &ModelFile| {
        let rest = model.rest.iter().map(|part| below(&part.path));
        iter::once(below(&model.path)).chain(rest).collect()
    };
    found.models.iter().map(of).collect()
}

#[test]
fn disks_that_are_parts_are_one_model_in_whatever_order() {
    let machine = Machine::new();
    machine.disk("vda", 8, &part(3, 3, 7));
    machine.disk("vdb", 8, &with(4096, 0, b"GGUF"));
    machine.disk("vdc", 8, &part(1, 3, 7));
    machine.disk("vdd", 8, &part(2, 3, 7));
    machine.sys("vdd", "serial", "zosia-4090\n");
    let mut finder = machine.finder();
    let found = finder.scan();
    assert_eq!(
        files(&machine, &found),
        [vec!["vdb"], vec!["vdc", "vdd", "vda"]]
    );
    assert_eq!(names(&found), ["vdb", "vdc"]);
    let lengths: Vec<u64> = found.models[1].rest.iter().map(|part| part.bytes).collect();
    assert_eq!(
        (lengths, found.models[1].all_bytes()),
        (vec![4090, 4096], 12_282)
    );
    assert_eq!(found.notes, [""; 0]);
    assert_eq!(finder.scan(), found);
}

#[test]
fn parts_of_two_models_are_told_apart_by_counts_and_labels() {
    let machine = Machine::new();
    machine.disk("vda", 8, &gpt());
    machine.partition("vda", 1, "a-00001-of-00002", &part(1, 2, 7));
    machine.partition("vda", 2, "a-00002-of-00002", &part(2, 2, 7));
    machine.partition("vda", 3, "b-00001-of-00002", &part(1, 2, 7));
    machine.partition("vda", 4, "b-00002-of-00002", &part(2, 2, 7));
    // One alone of its counts may have any label.
    machine.disk("vdb", 8, &part(1, 2, 8));
    machine.disk("vdc", 8, &gpt());
    machine.partition("vdc", 1, "c-00002-of-00002", &part(2, 2, 8));
    let found = machine.finder().scan();
    let expected = [["vda1", "vda2"], ["vda3", "vda4"], ["vdb", "vdc1"]];
    assert_eq!(files(&machine, &found), expected);
    let chosen = |wanted| match choose(&found.models, Some(wanted)) {
        Ok(Choice::One(model)) => model.name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(chosen("b"), "b-00001-of-00002");
    assert_eq!(chosen("a-00001-of-00002"), "a-00001-of-00002");
}

#[test]
fn a_part_that_is_missing_or_there_twice_leaves_a_note() {
    let missing = "of a model in 3 parts, part 2 is missing beside vda, vdb; attach it";
    let table: [(&[u16], &str); 5] = [
        (&[1, 3], missing),
        (&[3, 1], "part 2 is missing beside vdb, vda"),
        (&[1, 2], "part 3 is missing beside vda, vdb"),
        (&[2, 3], "part 1 is missing beside vda, vdb"),
        (
            &[1, 2, 3, 2],
            "vdb, vdd are each part 2 of a model in 3 parts",
        ),
    ];
    for (numbers, expected) in table {
        let machine = Machine::new();
        for (name, number) in ["vda", "vdb", "vdc", "vdd"].into_iter().zip(numbers) {
            machine.disk(name, 8, &part(*number, 3, 7));
        }
        let found = machine.finder().scan();
        assert_eq!(found.models, []);
        let [note] = found.notes.as_slice() else {
            panic!("{expected}: {:?}", found.notes);
        };
        assert!(
            note.contains(expected) && note.ends_with("[ZE-10]"),
            "{note}"
        );
        let (elapsed, deadline) = (Duration::ZERO, Duration::from_secs(5));
        assert!(
            !Finder::is_settled(&found, None, elapsed, deadline),
            "one may come"
        );
    }
}

#[test]
fn a_single_disk_is_not_looked_into() {
    let machine = Machine::new();
    machine.disk("vda", 8, &part(1, 3, 7));
    let found = machine.finder().scan();
    assert_eq!(files(&machine, &found), [["vda"]]);
}

#[test]
fn files_that_are_called_as_parts_are_one_model() {
    let machine = Machine::new();
    machine.disk("vda", 8, &ext4());
    for number in 1..=3 {
        machine.file_on(
            "vda",
            &format!("m/big-0000{number}-of-00003.gguf"),
            b"GGUF....",
        );
    }
    machine.file_on("vda", "big-00001-of-00001.gguf", b"GGUF");
    let found = machine.finder().scan();
    let part = |number| format!("vda.mounted/m/big-0000{number}-of-00003.gguf");
    let whole = vec!["vda.mounted/big-00001-of-00001.gguf".to_owned()];
    assert_eq!(
        files(&machine, &found),
        [whole, (1..=3).map(part).collect()]
    );
    assert_eq!(found.models[1].all_bytes(), 24);

    let given = |number| {
        let path = machine.path(&format!("dev/vda.mounted/m/big-0000{number}-of-00003.gguf"));
        model_from_path(&path)
    };
    let model = &given(1).unwrap().models[0];
    assert_eq!(model.rest, found.models[1].rest);
    let error = given(2).unwrap_err().to_string();
    assert!(
        error.contains("big-00002-of-00003.gguf is part 2"),
        "{error}"
    );
    assert!(error.contains("give the first,"), "{error}");
    fs::remove_file(machine.path("dev/vda.mounted/m/big-00003-of-00003.gguf")).unwrap();
    let error = given(1).unwrap_err().to_string();
    assert!(
        error.contains("this one is missing") && error.contains("-00003-of"),
        "{error}"
    );
}
