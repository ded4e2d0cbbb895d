// Sends numbers to a server that echoes them, through whatever happens to it, and counts what came back:
// `kept URL SECONDS [KEY=VALUE...]`. Every setting has a key; with `resume=true` nothing comes twice either.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "everlink.hpp"

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

int main(int count, char **arguments) try {
    if (count < 3) {
        std::fprintf(stderr, "kept URL SECONDS [KEY=VALUE...]\n");
        return 2;
    }
    std::mutex lock;
    std::map<long, int> echoes;       // how often each number has come back
    clock_type::duration longest{};   // between two echoes
    auto last = clock_type::now();

    everlink::client client(arguments[1]);
    client.set("delivery", "at_least_once")
        .set("backoff.first", "0s")
        .set("backoff.initial", "100ms")
        .set("backoff.max", "1s")
        .set("heartbeat.interval", "2s");
    for (int i = 3; i < count; i++) {
        std::string pair = arguments[i];
        auto equals = pair.find('=');
        if (equals == std::string::npos) throw std::invalid_argument(pair + " is no KEY=VALUE");
        client.set(pair.substr(0, equals), pair.substr(equals + 1));
    }
    client.on_message([&](everlink::connection &, everlink::message_view message) {
        std::lock_guard guard(lock);
        ++echoes[std::atol(std::string(message.view()).c_str())];
        auto now = clock_type::now();
        longest = std::max(longest, now - last);
        last = now;
    });
    client.on_event([](everlink::connection &, const everlink_event &event) {
        if (std::getenv("VERBOSE")) std::fprintf(stderr, "%s\n", event.text);
    });
    client.start();
    client.wait_connected(10s);
    last = clock_type::now();

    long sent = 0;
    auto end = clock_type::now() + std::chrono::seconds(std::atol(arguments[2]));
    for (auto next = clock_type::now(); next < end; next += 20ms) {
        std::this_thread::sleep_until(next);
        client.send(std::to_string(sent++)); // waits in the queue while there is no server
    }
    auto has_all = [&] {
        std::lock_guard guard(lock);
        return echoes.size() == static_cast<std::size_t>(sent);
    };
    for (int i = 0; i < 500 && !has_all(); i++) std::this_thread::sleep_for(20ms);
    auto left = client.close();

    long doubled = 0;
    for (auto [number, times] : echoes) doubled += times - 1;
    std::printf("%ld sent, %zu came back, %ld of them twice; longest pause %lld ms; %zu not delivered\n", sent,
                echoes.size(), doubled,
                static_cast<long long>(std::chrono::duration_cast<everlink::milliseconds>(longest).count()),
                left.size());
    return echoes.size() == static_cast<std::size_t>(sent) ? 0 : 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
