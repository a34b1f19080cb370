// What faults need from the start of a world to its end: each kind once, found by its type.
#pragma once

#include <map>
#include <memory>
#include <typeindex>

namespace keelback::chaos {

class Means {
 public:
  template <class T>
  T* find() const {
    const auto found = all_.find(typeid(T));
    return found == all_.end() ? nullptr : static_cast<T*>(found->second.get());
  }
  template <class T>
  T& add(std::shared_ptr<T> one) {  // lives as long as the last copy of these means
    T& made = *one;
    all_[typeid(T)] = std::move(one);
    return made;
  }

 private:
  std::map<std::type_index, std::shared_ptr<void>> all_;
};

}  // namespace keelback::chaos
