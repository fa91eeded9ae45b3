//! Compiles the C++ shim against the libtorch that tch links.

fn main() {
    println!("cargo:rerun-if-changed=native");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    let libtorch =
        std::env::var("LIBTORCH").expect("LIBTORCH is set by .cargo/config.toml after `make setup`");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .warnings(false)
        .include(format!("{libtorch}/include"))
        .files(["native/shim.cpp", "native/convolution.cpp"])
        .compile("camtrast_shim");
}
