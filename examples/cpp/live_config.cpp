// Settings from code, and changed while the pool runs: all of a change, or nothing of it.
//   live_config [APP]
#include <keelback/keelback.h>
#include <chrono>
#include <iostream>
#include <thread>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  keelback::Config config(argc > 1 ? argv[1] : "app.py");
  if (auto set = config.set({{"pool.workers", "1"}, {"sessions.idle_ttl", "5m"}}); !set) {
    std::cerr << set.error().message << '\n';
    return 1;
  }
  auto pool = keelback::Pool::start(std::move(config));
  if (!pool || !pool->wait_ready(30s)) return 1;
  if (!pool->session("ann").call("remember", R"(["snake"])")) return 1;

  // A mistake changes nothing, and says what was meant.
  const auto typo = pool->configure({{"pool.workers", "3"}, {"sessions.idle_tll", "1s"}});
  if (typo) return 1;
  std::cout << typo.error().message << '\n';

  // Takes effect on the session that exists already, and on the number of workers.
  if (!pool->configure({{"pool.workers", "3"}, {"sessions.idle_ttl", "100ms"}})) return 1;
  while (pool->stats().sessions.active > 0 || pool->stats().workers.ready < 3) {
    std::this_thread::sleep_for(5ms);
  }
  const auto expired = pool->session("ann").call("remember", R"(["poison"])");
  if (expired) return 1;
  std::cout << pool->workers().size() << " workers, ann: " << to_string(expired.error().kind)
            << '\n';
}
