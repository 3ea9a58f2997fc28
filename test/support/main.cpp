// SPDX-License-Identifier: BSL-1.0
//
// main() of every test binary: doctest's, with the watchdog of watchdog.cpp around each case.
#define DOCTEST_CONFIG_IMPLEMENT
#include "support/watchdog.hpp"

#include <doctest/doctest.h>

namespace {

class watchdog_listener : public doctest::IReporter {
public:
  explicit watchdog_listener(const doctest::ContextOptions&) {}

  void test_case_start(const doctest::TestCaseData& test_case) override {
    bothworlds::testing::watchdog_arm(test_case.m_name);
  }
  void test_case_reenter(const doctest::TestCaseData& test_case) override {
    bothworlds::testing::watchdog_arm(test_case.m_name);
  }
  void test_case_end(const doctest::CurrentTestCaseStats&) override {
    bothworlds::testing::watchdog_disarm();
  }

  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

DOCTEST_REGISTER_LISTENER("watchdog", 1, watchdog_listener);

}  // namespace

int main(int argc, char** argv) {
  bothworlds::testing::watchdog_start();
  doctest::Context context(argc, argv);
  const int result = context.run();
  bothworlds::testing::watchdog_stop();
  return result;
}
