// Leaving politely: what was accepted is finished, what comes later is refused, nothing is left.
//   drain [APP]
#include <keelback/keelback.h>
#include <chrono>
#include <iostream>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  auto pool = keelback::Pool::start(keelback::Config(argc > 1 ? argv[1] : "app.py"));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }
  keelback::Call call;
  call.function = "nap";
  call.payload = "[0.2]";
  keelback::Submission running = pool->submit(std::move(call));
  pool->drain(10s);
  const keelback::Result finished = running.result.get();
  if (!finished) {
    std::cerr << finished.error().describe() << '\n';
    return 1;
  }
  std::cout << "finished: " << finished->payload << '\n';
  const auto refused = pool->call("greet", R"(["Ada"])");
  if (refused) return 1;
  std::cout << "refused: " << to_string(refused.error().kind) << '\n';
  std::cout << pool->workers().size() << " workers left\n";
}
