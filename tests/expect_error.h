// EXPECT_ERROR(statement, "part", ...): the statement throws an Error whose one sentence contains all the parts.
#pragma once
#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "arena/error.h"

#define EXPECT_ERROR(statement, ...)                                                            \
  do {                                                                                          \
    std::string sentence_;                                                                      \
    try {                                                                                       \
      statement;                                                                                \
      ADD_FAILURE() << #statement " throws nothing";                                            \
    } catch (const neurogen::Error& error) {                                                    \
      sentence_ = error.what();                                                                 \
      EXPECT_EQ(sentence_.find('\n'), std::string::npos) << sentence_;                          \
      for (const std::string& part : std::initializer_list<std::string>{__VA_ARGS__}) {         \
        EXPECT_NE(sentence_.find(part), std::string::npos) << sentence_ << "\nlacks: " << part; \
      }                                                                                         \
    }                                                                                           \
  } while (false)
