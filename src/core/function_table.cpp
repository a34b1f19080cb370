#include "core/function_table.h"

namespace keelback::core {

FunctionTable::~FunctionTable() {
  while (!all_.empty()) drop(all_.front());
}

Function& FunctionTable::make(std::string_view name) {
  Function& function = *slab_.make();
  function.spec.name = name;
  index_.insert(function);
  all_.push_back(function);
  return function;
}

void FunctionTable::drop(Function& function) {
  function.parked.clear();
  index_.erase(function);
  all_.erase(all_.iterator_to(function));
  slab_.free(&function);
}

Function& FunctionTable::trust(std::string_view name) {
  Function* function = index_.find(name);
  return function ? *function : make(name);
}

void FunctionTable::release(Function& function) {
  if (--function.in_flight == 0 && !function.known) drop(function);
}

void FunctionTable::announce(const std::vector<FunctionSpec>& functions) {
  announced_ = true;
  for (Function& function : all_) function.known = false;
  for (const FunctionSpec& spec : functions) {
    Function& function = trust(spec.name);
    function.spec = spec;
    function.known = true;
  }
  for (auto it = all_.begin(); it != all_.end();) {
    Function& function = *it++;
    if (!function.known && function.in_flight == 0) drop(function);
  }
}

}  // namespace keelback::core
