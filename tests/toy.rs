//! The committed toy bundle is what its program writes.

#[path = "../examples/toy.rs"]
#[expect(dead_code, reason = "the program's main is not called here")]
mod program;

mod common;

#[test]
fn the_toy_bundle_is_what_its_program_writes() {
    let dir = tempfile::tempdir().unwrap();
    program::write(dir.path()).unwrap();
    for name in
        ["bundle.toml", "encoder.onnx", "heads.onnx", "router.onnx", "tokenizer.json", "questions.jsonl"]
    {
        let (fresh, committed) =
            (std::fs::read(dir.path().join(name)), std::fs::read(common::toy().join(name)));
        assert_eq!(fresh.unwrap(), committed.unwrap(), "{name}: run `cargo run --example toy`");
    }
}
