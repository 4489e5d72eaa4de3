//! Tests on both runtimes.

/// Makes two tests of an `async fn` without arguments: `NAME::current_thread` and
/// `NAME::multi_thread`.
macro_rules! both_runtimes {
    ($name:ident) => {
        mod $name {
            #[tokio::test]
            async fn current_thread() {
                super::$name().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn multi_thread() {
                super::$name().await;
            }
        }
    };
}
