//! Compiles the C++ shim against the libtorch that tch links.

fn main() {
    // For processors with AVX2; others never enter it.
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .opt_level(3)
        .flags(["-mavx2", "-mfma"])
        .files(["native/norm_kernels.cpp", "native/winograd_kernels.cpp"])
        .compile("camtrast_kernels");
    println!("cargo:rerun-if-changed=native");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch =
        std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml after `make setup`");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .define("USE_C10D_GLOO", None)
        // Before libtorch's: the declarations of Gloo that its headers lack.
        .include("native")
        .include(format!("{libtorch}/include"))
        .include(format!("{libtorch}/include/torch/csrc/api/include"))
        .files([
            "native/shim.cpp",
            "native/convolution.cpp",
            "native/norm.cpp",
            "native/winograd.cpp",
            "native/c10d.cpp",
            "native/gradients.cpp",
            "native/sync_batch_norm.cpp",
        ])
        .compile("camtrast_shim");
}
