//! The `thorp` binary: hands its arguments to [`thorp::cli`] and ends with the exit code it gives.

fn main() -> std::process::ExitCode {
    thorp::cli::main()
}
