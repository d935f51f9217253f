//! Compiles the C loop of `weir-bench-floor` against the librdkafka that the rest of the workspace links.

fn main() {
    let loop_source = "pipelines/floor.c";
    println!("cargo::rerun-if-changed={loop_source}");
    // rdkafka-sys declares `links = "rdkafka"`, so cargo hands us where it built the library
    let Some(librdkafka) = std::env::var_os("DEP_RDKAFKA_ROOT") else {
        println!("cargo::error=rdkafka-sys did not say where it built librdkafka");
        return;
    };
    cc::Build::new()
        .file(loop_source)
        .flag("-isystem") // its header is not ours to warn about
        .flag(std::path::Path::new(&librdkafka).join("src"))
        .compile("weir_bench_floor");
}
