// State per user: calls of one session meet the same Python state, in order, on one worker.
//   sessions [APP]
#include <keelback/keelback.h>
#include <iostream>

int main(int argc, char** argv) {
  auto pool = keelback::Pool::start(keelback::Config(argc > 1 ? argv[1] : "app.py"));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }
  keelback::Session ann = pool->session("ann");
  keelback::Session bob = pool->session("bob");
  const auto first = ann.call("remember", R"(["snake"])");
  const auto other = bob.call("remember", R"(["river"])");
  const auto second = ann.call("remember", R"(["poison"])");
  if (!first || !other || !second) {
    std::cerr << "a call failed\n";
    return 1;
  }
  std::cout << "ann: " << second->payload << " bob: " << other->payload << '\n';

  // A fence: only go on if this still is the session we know.
  ann.expect({first->birth, first->epoch});
  ann.end();
  const auto stale = ann.call("remember", R"(["nothing"])");
  if (stale) return 1;
  std::cout << "after its end: " << to_string(stale.error().kind) << '\n';
}
