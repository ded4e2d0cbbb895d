//! How the shared library is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libeverlink.so.0");
        // threads may end after `dlclose`, and their code has to be there until then
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
