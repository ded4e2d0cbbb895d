// examples/kept.cpp on IXWebSocket, for `make kills`: to be compiled with its sources.
#include <ixwebsocket/IXWebSocket.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using clock_type = std::chrono::steady_clock;

int main(int, char **arguments) {
    std::mutex lock;
    std::map<long, int> echoes;
    clock_type::duration longest{};
    auto last = clock_type::now();
    ix::WebSocket client;
    client.setUrl(arguments[1]);
    client.setPingInterval(2);
    client.setMinWaitBetweenReconnectionRetries(100);
    client.setMaxWaitBetweenReconnectionRetries(1000);
    client.disablePerMessageDeflate();
    client.setOnMessageCallback([&](const ix::WebSocketMessagePtr &message) {
        if (message->type != ix::WebSocketMessageType::Message) return;
        std::lock_guard guard(lock);
        ++echoes[std::atol(message->str.c_str())];
        auto now = clock_type::now();
        longest = std::max(longest, now - last);
        last = now;
    });
    client.start();
    while (client.getReadyState() != ix::ReadyState::Open) std::this_thread::sleep_for(1ms);
    last = clock_type::now();
    long sent = 0, refused = 0, twice = 0;
    auto end = clock_type::now() + std::chrono::seconds(std::atol(arguments[2]));
    for (auto next = clock_type::now(); next < end; next += 20ms) {
        std::this_thread::sleep_until(next);
        if (!client.sendText(std::to_string(sent++)).success) ++refused;
    }
    std::this_thread::sleep_for(2s);
    client.stop();
    for (auto [number, times] : echoes) twice += times - 1;
    std::printf("%ld sent, %ld refused, %zu came back, %ld of them twice; longest pause %lld ms\n", sent, refused,
                echoes.size(), twice,
                static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(longest).count()));
}
