// The smallest program: start a pool, call a Python function, read its answer.
//   hello [APP]
#include <keelback/keelback.h>
#include <iostream>

int main(int argc, char** argv) {
  auto pool = keelback::Pool::start(keelback::Config(argc > 1 ? argv[1] : "app.py"));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }
  // Arguments are JSON: an object for keywords, an array for positions. So is the answer.
  const keelback::Result result = pool->call("greet", R"({"name": "Ada"})");
  if (!result) {
    std::cerr << result.error().describe() << '\n';
    return 1;
  }
  std::cout << result->payload << '\n';
}
