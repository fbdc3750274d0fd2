# The course in a container, for a classroom's server or a service that opens repositories in the browser:
#   docker build -t cnn-course .
#   docker run --rm -p 8888:8888 cnn-course        # then open the address that it prints
# PyTorch's default build for Linux brings GPU libraries of several GB. Where a smaller image matters, name an index that
# serves the CPU build: docker build --build-arg PIP_OPTIONS="--index-url ADDRESS" -t cnn-course .
FROM python:3.13-slim

ARG PIP_OPTIONS=""
# Such services run the container as this user, with its home as the folder of the repository.
ARG NB_USER=learner
ARG NB_UID=1000
RUN useradd --create-home --uid ${NB_UID} ${NB_USER}
WORKDIR /home/${NB_USER}/course

# The packages first, so that a changed lesson does not install them again.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cnnlib/__init__.py cnnlib/__init__.py
RUN pip install --no-cache-dir ${PIP_OPTIONS} --constraint constraints.txt --editable . && chown ${NB_UID} .

COPY --chown=${NB_UID} . .
USER ${NB_USER}
ENV HOME=/home/${NB_USER}
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "notebooks/00_start_here.ipynb"]
