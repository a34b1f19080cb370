// Calls that do not block: a future each, or a callback on the library's thread.
//   async [APP]
#include <keelback/keelback.h>
#include <iostream>
#include <latch>
#include <vector>

int main(int argc, char** argv) {
  auto pool = keelback::Pool::start(keelback::Config(argc > 1 ? argv[1] : "app.py"));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }
  std::vector<keelback::Submission> submissions;
  for (const char* name : {"Ada", "Alan", "Grace"}) {
    keelback::Call call;
    call.function = "greet";
    call.payload = std::string("[\"") + name + "\"]";
    submissions.push_back(pool->submit(std::move(call)));
  }
  for (auto& submission : submissions) {
    const keelback::Result result = submission.result.get();
    if (!result) return 1;
    std::cout << result->payload << '\n';
  }

  std::latch done(1);
  bool ok = false;
  keelback::Call call;
  call.function = "greet";
  call.payload = R"(["everybody"])";
  pool->submit(std::move(call), [&](keelback::Result result) {
    ok = result.has_value();  // must not block: this is the loop thread
    done.count_down();
  });
  done.wait();
  std::cout << (ok ? "the callback was called\n" : "the call failed\n");
  return ok ? 0 : 1;
}
