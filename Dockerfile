# The programs for the CPU, in an image without a compiler:
#   docker build -t neurogen-engine .
#   docker run --rm -v "$PWD:/work" neurogen-engine train --arch tiny --data my-train.bin --export my.safetensors
FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make
WORKDIR /source
COPY tools/setup.sh tools/setup.sh
RUN tools/setup.sh
COPY . .
RUN make install CUDA=off && cmake --install build --component bundle

FROM debian:12-slim
COPY --from=build /usr/local /usr/local
WORKDIR /work
ENTRYPOINT ["neurogen-engine"]
