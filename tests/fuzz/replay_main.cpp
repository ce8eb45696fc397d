// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target without libFuzzer.
//   fuzz_NAME CORPUS             every seed, then thousands of mutations of the seeds, always the same ones, for at
//   most
//                                most_time of processor time
//   fuzz_NAME CORPUS SECONDS     mutations for so long, other ones each time
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <unistd.h>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;
using Random = std::mt19937_64;

constexpr unsigned mutations_per_seed = 10000;
constexpr std::clock_t most_time = std::clock_t{10} * CLOCKS_PER_SEC;
constexpr std::size_t max_size = 64 * 1024;
constexpr const char* last_input = "fuzz-last-input";

std::vector<Input> read_seeds(const char* corpus) {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator{corpus})
        paths.push_back(entry.path());
    std::ranges::sort(paths);
    std::vector<Input> seeds;
    for (const auto& path : paths) {
        std::ifstream in{path, std::ios::binary};
        seeds.emplace_back(std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{});
    }
    return seeds;
}

std::size_t below(Random& random, std::size_t bound) { return static_cast<std::size_t>(random() % bound); }

/// Puts a number that parsers tend to get wrong over a part of the input.
void overwrite(Input& input, Random& random) {
    constexpr std::uint64_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, ~0ULL, 1ULL << 63};
    const std::size_t at = below(random, input.size());
    std::uint64_t value = random() % 4 == 0 ? random() : odd[below(random, std::size(odd))];
    const std::size_t width = std::size_t{1} << below(random, 4);
    for (std::size_t i = 0; i < width && at + i < input.size(); ++i, value >>= 8)
        input[at + i] = static_cast<std::uint8_t>(value);
}

void mutate(Input& input, Random& random) {
    if (input.empty() || (random() % 16 == 0 && input.size() < max_size)) {
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(below(random, input.size() + 1)), below(random, 16),
                     static_cast<std::uint8_t>(random()));
        return;
    }
    const auto at = [&] { return static_cast<std::ptrdiff_t>(below(random, input.size())); };
    switch (random() % 8) {
    case 0:
        input.resize(below(random, input.size()) + 1);
        break;
    case 1: {
        const auto first = at();
        input.erase(input.begin() + first, input.begin() + std::min<std::ptrdiff_t>(first + at(), std::ssize(input)));
        break;
    }
    case 2:
        std::copy_n(Input{input}.begin() + at(), 1, input.begin() + at());
        break;
    case 3:
        input[static_cast<std::size_t>(at())] ^= static_cast<std::uint8_t>(1U << random() % 8);
        break;
    default:
        overwrite(input, random);
    }
}

/// The input under test, for the handler of a signal that it causes.
const Input* running = nullptr;

void save_running(int signal) {
    const int fd = ::open(last_input, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && running && ::write(fd, running->data(), running->size()) >= 0)
        std::fprintf(stderr, "this input did it: %s\n", last_input);
    std::signal(signal, SIG_DFL);
    std::raise(signal);
}

void try_one(const Input& input) {
    running = &input;
    LLVMFuzzerTestOneInput(input.data(), input.size());
}

void mutate_and_try(const Input& seed, Random& random) {
    Input input = seed;
    for (std::size_t steps = 1 + below(random, 4); steps > 0; --steps)
        mutate(input, random);
    try_one(input);
}

} // namespace

// The sanitizers raise a signal at the end, like a failed check of the target.
extern "C" const char* __asan_default_options() { return "abort_on_error=1:handle_abort=0"; }
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }

int main(int argc, char** argv) {
    std::signal(SIGABRT, save_running);
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s CORPUS [SECONDS]\n", argv[0]);
        return 2;
    }
    const std::vector<Input> seeds = read_seeds(argv[1]);
    if (seeds.empty()) {
        std::fprintf(stderr, "no seeds in %s\n", argv[1]);
        return 1;
    }
    std::ranges::for_each(seeds, try_one);
    unsigned long runs = 0;
    if (argc > 2) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{std::atoi(argv[2])};
        for (Random random{std::random_device{}()}; std::chrono::steady_clock::now() < end; ++runs)
            mutate_and_try(seeds[below(random, seeds.size())], random);
    } else {
        Random random{1};
        for (unsigned i = 0; i < mutations_per_seed && std::clock() < most_time; ++i)
            for (const Input& seed : seeds) {
                mutate_and_try(seed, random);
                ++runs;
            }
    }
    std::printf("%zu seeds, %lu mutations: nothing found\n", seeds.size(), runs);
}
