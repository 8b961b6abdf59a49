// Operations that are wrong on purpose, on either device: the checks must find each.
#pragma once
#include <set>

#include "tests/kernels/operations/operation.h"

namespace neurogen {

enum class How : std::uint8_t {
  not_at_all,
  another_value,       // only in float64, so that other types differ from it
  wrong_sign,          // of a gradient
  one_element_after,   // is written
  one_element_before,  //
  beside_a_row,        //
  into_an_input,       //
  one_row_missing,
  sum_with_what_was_there,
  by_chance,    // every second run gives something else
  another_way,  // gives something else
};

struct Wrong {
  How how;
  std::set<std::string> found_by{};  // the checks that must find it, of formula, gradients, values, writes and bits
};
std::vector<Wrong> wrong_operations();

// c = a b and d_a = d_c b^T, wrong in that way.
Case product_that(How how);
std::ostream& operator<<(std::ostream& out, How how);

}  // namespace neurogen
