// How calls fail: the outcome has a name, says whether the function may have run, and carries what
// Python or the kernel said.
//   errors_and_deadlines [APP]
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
  const auto raised = pool->call("divide", "[1, 0]");
  if (raised || !raised.error().python) return 1;
  std::cout << raised.error().python->type << ": " << raised.error().python->message << '\n';

  const auto unbound = pool->call("divide", R"({"a": 1})");
  if (unbound) return 1;
  std::cout << to_string(unbound.error().kind) << ", effect " << to_string(unbound.error().effect)
            << '\n';

  keelback::Call slow;
  slow.function = "nap";
  slow.payload = "[60]";
  slow.deadline = 200ms;  // total: waiting, starting and running
  const auto late = pool->call(slow);
  if (late) return 1;
  std::cout << to_string(late.error().kind) << ", effect " << to_string(late.error().effect)
            << '\n';
  // Only what had no effect, or may have it twice, is safe to ask again.
  if (late.error().effect == keelback::Effect::kMaybe) std::cout << "it may have run\n";
}
