//! Compiles `proto/` and the messages of ONNX in pure Rust, so that building needs no protoc.

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

const PROTO: &str = "micro/reward/v1/reward.proto";

#[expect(clippy::disallowed_methods, reason = "cargo tells a build script its directory in the environment")]
fn out_dir() -> Option<PathBuf> {
    std::env::var_os("OUT_DIR").map(PathBuf::from)
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto/{PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let path = out_dir().ok_or("cargo did not set OUT_DIR")?.join("descriptors.bin");
    std::fs::write(path, descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::transport::grpc::codec::Codec")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=src/fit/onnx.proto");
    tonic_prost_build::configure().compile_fds(protox::compile(["onnx.proto"], ["src/fit"])?)?;
    Ok(())
}
